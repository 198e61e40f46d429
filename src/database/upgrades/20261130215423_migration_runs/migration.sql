ALTER TABLE `migrations` ADD `run` integer DEFAULT 1 NOT NULL;--> statement-breakpoint
-- One that waits to be handed to the engine must not get the key of its first run, which is used up.
UPDATE `migrations` SET `run` = 2 WHERE `attempt` > 1 OR `phaseListVersion` > 1000;
