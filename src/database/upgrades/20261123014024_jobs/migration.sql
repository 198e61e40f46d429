CREATE TABLE `job_children` (
	`id` text PRIMARY KEY,
	`jobId` text NOT NULL,
	`cloudId` text NOT NULL,
	`ordinal` integer NOT NULL,
	`state` text NOT NULL,
	`forkMs` integer,
	`memoryBytes` integer,
	`tasksDone` integer DEFAULT 0 NOT NULL,
	`lossReason` text,
	`createdAt` integer NOT NULL,
	`endedAt` integer
);
--> statement-breakpoint
CREATE TABLE `job_events` (
	`jobId` text NOT NULL,
	`sequence` integer NOT NULL,
	`kind` text NOT NULL,
	`message` text NOT NULL,
	`childId` text,
	`taskIndex` integer,
	`at` integer NOT NULL,
	CONSTRAINT `job_events_pk` PRIMARY KEY(`jobId`, `sequence`)
);
--> statement-breakpoint
CREATE TABLE `job_programs` (
	`jobId` text PRIMARY KEY,
	`source` text NOT NULL,
	`shared` text NOT NULL
);
--> statement-breakpoint
CREATE TABLE `job_task_logs` (
	`jobId` text NOT NULL,
	`index` integer NOT NULL,
	`text` text NOT NULL,
	`truncated` integer DEFAULT false NOT NULL,
	CONSTRAINT `job_task_logs_pk` PRIMARY KEY(`jobId`, `index`)
);
--> statement-breakpoint
CREATE TABLE `job_tasks` (
	`jobId` text NOT NULL,
	`index` integer NOT NULL,
	`state` text NOT NULL,
	`component` integer NOT NULL,
	`attempts` integer DEFAULT 0 NOT NULL,
	`kills` integer DEFAULT 0 NOT NULL,
	`childId` text,
	`durationMs` integer,
	`startedAt` integer,
	`endedAt` integer,
	`error` text,
	`interactsWith` text NOT NULL,
	`input` text,
	`output` text,
	CONSTRAINT `job_tasks_pk` PRIMARY KEY(`jobId`, `index`)
);
--> statement-breakpoint
CREATE TABLE `jobs` (
	`id` text PRIMARY KEY,
	`name` text NOT NULL,
	`state` text NOT NULL,
	`desired` text NOT NULL,
	`request` text NOT NULL,
	`parentVmId` text,
	`parentGeneration` integer,
	`parentReason` text,
	`parentShaBefore` text,
	`parentShaAfter` text,
	`engineId` text NOT NULL,
	`tasksTotal` integer NOT NULL,
	`components` integer NOT NULL,
	`imbalance` text,
	`problemCode` text,
	`problemMessage` text,
	`problemRemedy` text,
	`createdAt` integer NOT NULL,
	`startedAt` integer,
	`endedAt` integer,
	`updatedAt` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `parent_vm_copies` (
	`parentVmId` text NOT NULL,
	`generation` integer NOT NULL,
	`cloudId` text NOT NULL,
	`state` text NOT NULL,
	`memoryBytes` integer,
	`ramSha256` text,
	`diskSha256` text,
	`bootMs` integer,
	`saveMs` integer,
	`savedAt` integer,
	`problem` text,
	CONSTRAINT `parent_vm_copies_pk` PRIMARY KEY(`parentVmId`, `generation`, `cloudId`)
);
--> statement-breakpoint
CREATE TABLE `parent_vms` (
	`id` text PRIMARY KEY,
	`name` text NOT NULL,
	`recipe` text NOT NULL,
	`recipeDigest` text NOT NULL,
	`generation` integer DEFAULT 1 NOT NULL,
	`run` integer DEFAULT 1 NOT NULL,
	`offers` text,
	`state` text NOT NULL,
	`problem` text,
	`engineId` text NOT NULL,
	`createdAt` integer NOT NULL,
	`updatedAt` integer NOT NULL
);
--> statement-breakpoint
CREATE INDEX `job_children_job` ON `job_children` (`jobId`,`ordinal`);--> statement-breakpoint
CREATE INDEX `job_tasks_state` ON `job_tasks` (`jobId`,`state`,`index`);--> statement-breakpoint
CREATE INDEX `jobs_created` ON `jobs` (`createdAt`);--> statement-breakpoint
CREATE INDEX `jobs_state` ON `jobs` (`state`);--> statement-breakpoint
CREATE INDEX `jobs_parent` ON `jobs` (`parentVmId`);--> statement-breakpoint
CREATE INDEX `parent_vms_created` ON `parent_vms` (`createdAt`);--> statement-breakpoint
CREATE UNIQUE INDEX `parent_vms_name` ON `parent_vms` (`name`) WHERE state <> 'DELETED';