CREATE TABLE `admissions` (
	`migrationId` text NOT NULL,
	`attempt` integer NOT NULL,
	`sequence` integer NOT NULL,
	`needs` text NOT NULL,
	`state` text NOT NULL,
	`queuedAt` integer NOT NULL,
	`admittedAt` integer,
	CONSTRAINT `admissions_pk` PRIMARY KEY(`migrationId`, `attempt`)
);
--> statement-breakpoint
CREATE TABLE `concurrency_limits` (
	`scope` text NOT NULL,
	`subject` text NOT NULL,
	`limit` integer NOT NULL,
	CONSTRAINT `concurrency_limits_pk` PRIMARY KEY(`scope`, `subject`)
);
--> statement-breakpoint
CREATE TABLE `control_planes` (
	`engineId` text PRIMARY KEY,
	`seenAt` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `migration_group_members` (
	`id` text PRIMARY KEY,
	`groupId` text NOT NULL,
	`position` integer NOT NULL,
	`name` text NOT NULL,
	`dependsOn` text NOT NULL,
	`request` text NOT NULL,
	`migrationId` text,
	`refusalCode` text,
	`refusalMessage` text,
	`refusalRemedy` text
);
--> statement-breakpoint
CREATE TABLE `migration_groups` (
	`id` text PRIMARY KEY,
	`name` text NOT NULL,
	`state` text NOT NULL,
	`desired` text NOT NULL,
	`cutoverPolicy` text NOT NULL,
	`cutoverAt` integer,
	`engineId` text,
	`createdAt` integer NOT NULL,
	`startedAt` integer,
	`endedAt` integer,
	`updatedAt` integer NOT NULL
);
--> statement-breakpoint
CREATE INDEX `admissions_sequence` ON `admissions` (`sequence`);--> statement-breakpoint
CREATE INDEX `migration_group_members_group` ON `migration_group_members` (`groupId`,`position`);--> statement-breakpoint
CREATE INDEX `migration_group_members_migration` ON `migration_group_members` (`migrationId`);--> statement-breakpoint
CREATE INDEX `migration_groups_created` ON `migration_groups` (`createdAt`);