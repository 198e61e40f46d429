ALTER TABLE `migrations` ADD `copyKept` integer DEFAULT false NOT NULL;--> statement-breakpoint
ALTER TABLE `migrations` ADD `activity` text;--> statement-breakpoint
ALTER TABLE `migrations` ADD `exposedAt` integer;