ALTER TABLE `migrations` ADD `startOrder` integer DEFAULT 0 NOT NULL;--> statement-breakpoint
-- In the order in which the newest attempts' first events were written; one that has none yet was started last.
UPDATE `migrations` SET `startOrder` = coalesce(
	(SELECT min(e.rowid) FROM `migration_events` e WHERE e.`migrationId` = `migrations`.`id` AND e.`attempt` = `migrations`.`attempt`),
	(SELECT coalesce(max(rowid), 0) + 1 FROM `migration_events`)
);
