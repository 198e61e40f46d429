ALTER TABLE `job_children` ADD `wasPaused` integer DEFAULT false NOT NULL;--> statement-breakpoint
ALTER TABLE `job_tasks` ADD `failures` integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE `parent_vm_copies` ADD `pausedChildren` integer DEFAULT 0 NOT NULL;--> statement-breakpoint
ALTER TABLE `parent_vms` ADD `pausedChildren` integer DEFAULT 0 NOT NULL;