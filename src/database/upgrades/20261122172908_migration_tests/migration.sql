CREATE TABLE `migration_tests` (
	`id` text PRIMARY KEY,
	`migrationId` text NOT NULL,
	`attempt` integer NOT NULL,
	`state` text NOT NULL,
	`frozenMs` integer,
	`healthyAfterMs` integer,
	`console` text,
	`problem` text,
	`requestedAt` integer NOT NULL,
	`endedAt` integer
);
--> statement-breakpoint
CREATE INDEX `migration_tests_migration` ON `migration_tests` (`migrationId`,`requestedAt`);