ALTER TABLE `migrations` ADD `changeRateBytesPerSecond` real;--> statement-breakpoint
ALTER TABLE `migrations` ADD `bandwidth` text;