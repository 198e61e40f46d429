CREATE TABLE `attestations` (
	`id` text PRIMARY KEY,
	`cloudId` text NOT NULL,
	`uniqueId` text NOT NULL,
	`migrationId` text NOT NULL,
	`attempt` integer NOT NULL,
	`statement` text NOT NULL,
	`tokenId` text NOT NULL,
	`at` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `reconciliations` (
	`id` text PRIMARY KEY,
	`engineId` text NOT NULL,
	`cloudId` text NOT NULL,
	`uniqueId` text NOT NULL,
	`name` text,
	`migrationId` text NOT NULL,
	`attempt` integer NOT NULL,
	`run` integer DEFAULT 1 NOT NULL,
	`state` text NOT NULL,
	`verdict` text NOT NULL,
	`row` text NOT NULL,
	`problem` text,
	`done` text DEFAULT '[]' NOT NULL,
	`startOwed` integer DEFAULT false NOT NULL,
	`sourceFenced` integer DEFAULT false NOT NULL,
	`tokenId` text,
	`createdAt` integer NOT NULL,
	`updatedAt` integer NOT NULL,
	`endedAt` integer
);
--> statement-breakpoint
CREATE INDEX `attestations_attempt` ON `attestations` (`uniqueId`,`migrationId`,`attempt`);--> statement-breakpoint
CREATE UNIQUE INDEX `reconciliations_attempt` ON `reconciliations` (`cloudId`,`uniqueId`,`migrationId`,`attempt`);--> statement-breakpoint
CREATE INDEX `reconciliations_state` ON `reconciliations` (`state`);--> statement-breakpoint
CREATE TRIGGER `attestations_never_change` BEFORE UPDATE ON `attestations` BEGIN SELECT RAISE(ABORT, 'attestations are only ever added to'); END;--> statement-breakpoint
CREATE TRIGGER `attestations_never_go` BEFORE DELETE ON `attestations` BEGIN SELECT RAISE(ABORT, 'attestations are only ever added to'); END;
