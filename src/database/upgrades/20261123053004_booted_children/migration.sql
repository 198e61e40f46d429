ALTER TABLE `job_children` ADD `origin` text DEFAULT 'FORKED' NOT NULL;--> statement-breakpoint
ALTER TABLE `parent_vm_copies` ADD `childOrigin` text DEFAULT 'FORKED' NOT NULL;