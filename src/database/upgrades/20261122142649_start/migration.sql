CREATE TABLE `api_tokens` (
	`id` text PRIMARY KEY,
	`name` text NOT NULL,
	`role` text NOT NULL,
	`hash` text NOT NULL UNIQUE,
	`createdAt` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `changes` (
	`sequence` integer PRIMARY KEY AUTOINCREMENT,
	`topic` text NOT NULL,
	`subject` text NOT NULL,
	`at` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `clouds` (
	`id` text PRIMARY KEY,
	`name` text NOT NULL UNIQUE,
	`pluginId` text NOT NULL,
	`sealedOptions` text NOT NULL,
	`state` text NOT NULL,
	`problem` text,
	`capabilities` text NOT NULL,
	`connectedAt` integer NOT NULL,
	`refreshedAt` integer
);
--> statement-breakpoint
CREATE TABLE `idempotency_keys` (
	`tokenId` text NOT NULL,
	`key` text NOT NULL,
	`mutation` text NOT NULL,
	`inputHash` text NOT NULL,
	`answer` text,
	`createdAt` integer NOT NULL,
	CONSTRAINT `idempotency_keys_pk` PRIMARY KEY(`tokenId`, `key`)
);
--> statement-breakpoint
CREATE TABLE `active_migrations` (
	`virtualMachineId` text PRIMARY KEY,
	`migrationId` text NOT NULL
);
--> statement-breakpoint
CREATE TABLE `migration_events` (
	`id` text PRIMARY KEY,
	`migrationId` text NOT NULL,
	`attempt` integer NOT NULL,
	`sequence` integer NOT NULL,
	`kind` text NOT NULL,
	`phase` text,
	`message` text NOT NULL,
	`at` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `migration_secrets` (
	`migrationId` text PRIMARY KEY,
	`sealed` text NOT NULL
);
--> statement-breakpoint
CREATE TABLE `migration_steps` (
	`migrationId` text NOT NULL,
	`attempt` integer NOT NULL,
	`switchover` integer NOT NULL,
	`phase` text NOT NULL,
	`state` text NOT NULL,
	`result` text,
	`startedAt` integer NOT NULL,
	`endedAt` integer,
	CONSTRAINT `migration_steps_pk` PRIMARY KEY(`migrationId`, `attempt`, `switchover`, `phase`)
);
--> statement-breakpoint
CREATE TABLE `migrations` (
	`id` text PRIMARY KEY,
	`attempt` integer NOT NULL,
	`phaseListVersion` integer NOT NULL,
	`engineId` text NOT NULL,
	`state` text NOT NULL,
	`phase` text NOT NULL,
	`direction` text DEFAULT 'FORWARD' NOT NULL,
	`switchover` integer DEFAULT 1 NOT NULL,
	`voidedSwitchovers` integer DEFAULT 0 NOT NULL,
	`endState` text,
	`desired` text NOT NULL,
	`cutoverPolicy` text NOT NULL,
	`cutoverRequestedAt` integer,
	`sourceCloudId` text NOT NULL,
	`destinationCloudId` text NOT NULL,
	`sourceVirtualMachineId` text NOT NULL,
	`destinationVirtualMachineId` text,
	`request` text NOT NULL,
	`permittedDowntimeMs` integer NOT NULL,
	`estimatedRemainingMs` integer,
	`convergence` text,
	`etaMs` integer,
	`rateBytesPerSecond` real,
	`bottleneck` text,
	`diskBytes` integer,
	`bytesSent` integer DEFAULT 0 NOT NULL,
	`trackingMode` text,
	`via` text,
	`sourceRoot` text,
	`destinationRoot` text,
	`downtime` text,
	`findings` text NOT NULL,
	`problem` text,
	`errorCode` text,
	`errorMessage` text,
	`errorRemedy` text,
	`errorRetryable` integer,
	`createdAt` integer NOT NULL,
	`startedAt` integer,
	`endedAt` integer,
	`updatedAt` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `rounds` (
	`migrationId` text NOT NULL,
	`attempt` integer NOT NULL,
	`round` integer NOT NULL,
	`mode` text NOT NULL,
	`state` text NOT NULL,
	`scannedBytes` integer NOT NULL,
	`totalBytes` integer NOT NULL,
	`changedBytes` integer NOT NULL,
	`bytesSent` integer NOT NULL,
	`verifiedBytes` integer NOT NULL,
	`durationMs` integer,
	`startedAt` integer NOT NULL,
	CONSTRAINT `rounds_pk` PRIMARY KEY(`migrationId`, `attempt`, `round`)
);
--> statement-breakpoint
CREATE TABLE `disks` (
	`id` text PRIMARY KEY,
	`virtualMachineId` text NOT NULL,
	`cloudId` text NOT NULL,
	`providerId` text NOT NULL,
	`index` integer NOT NULL,
	`sizeBytes` integer NOT NULL,
	`bus` text NOT NULL,
	CONSTRAINT `fk_disks_cloudId_clouds_id_fk` FOREIGN KEY (`cloudId`) REFERENCES `clouds`(`id`) ON DELETE CASCADE
);
--> statement-breakpoint
CREATE TABLE `hosts` (
	`id` text PRIMARY KEY,
	`cloudId` text NOT NULL,
	`zoneId` text NOT NULL,
	`providerId` text NOT NULL,
	`name` text NOT NULL,
	`architecture` text NOT NULL,
	`cpuCount` integer NOT NULL,
	`memoryBytes` integer NOT NULL,
	`freeMemoryBytes` integer,
	`freeDiskBytes` integer,
	CONSTRAINT `fk_hosts_cloudId_clouds_id_fk` FOREIGN KEY (`cloudId`) REFERENCES `clouds`(`id`) ON DELETE CASCADE
);
--> statement-breakpoint
CREATE TABLE `networks` (
	`id` text PRIMARY KEY,
	`cloudId` text NOT NULL,
	`providerId` text NOT NULL,
	`name` text NOT NULL,
	CONSTRAINT `fk_networks_cloudId_clouds_id_fk` FOREIGN KEY (`cloudId`) REFERENCES `clouds`(`id`) ON DELETE CASCADE
);
--> statement-breakpoint
CREATE TABLE `nics` (
	`id` text PRIMARY KEY,
	`virtualMachineId` text NOT NULL,
	`cloudId` text NOT NULL,
	`networkId` text NOT NULL,
	`index` integer NOT NULL,
	`mac` text NOT NULL,
	`addresses` text NOT NULL,
	CONSTRAINT `fk_nics_cloudId_clouds_id_fk` FOREIGN KEY (`cloudId`) REFERENCES `clouds`(`id`) ON DELETE CASCADE
);
--> statement-breakpoint
CREATE TABLE `regions` (
	`id` text PRIMARY KEY,
	`cloudId` text NOT NULL,
	`providerId` text NOT NULL,
	`name` text NOT NULL,
	CONSTRAINT `fk_regions_cloudId_clouds_id_fk` FOREIGN KEY (`cloudId`) REFERENCES `clouds`(`id`) ON DELETE CASCADE
);
--> statement-breakpoint
CREATE TABLE `subnets` (
	`id` text PRIMARY KEY,
	`cloudId` text NOT NULL,
	`networkId` text NOT NULL,
	`providerId` text NOT NULL,
	`name` text NOT NULL,
	`cidr` text NOT NULL,
	CONSTRAINT `fk_subnets_cloudId_clouds_id_fk` FOREIGN KEY (`cloudId`) REFERENCES `clouds`(`id`) ON DELETE CASCADE
);
--> statement-breakpoint
CREATE TABLE `virtual_machines` (
	`id` text PRIMARY KEY,
	`cloudId` text NOT NULL,
	`providerId` text NOT NULL,
	`uniqueId` text NOT NULL,
	`name` text NOT NULL,
	`power` text NOT NULL,
	`hostId` text NOT NULL,
	`architecture` text NOT NULL,
	`firmware` text NOT NULL,
	`cpuCount` integer NOT NULL,
	`memoryBytes` integer NOT NULL,
	`endpoints` text DEFAULT '[]' NOT NULL,
	`present` integer NOT NULL,
	`seenAt` integer NOT NULL,
	CONSTRAINT `fk_virtual_machines_cloudId_clouds_id_fk` FOREIGN KEY (`cloudId`) REFERENCES `clouds`(`id`) ON DELETE CASCADE
);
--> statement-breakpoint
CREATE TABLE `zones` (
	`id` text PRIMARY KEY,
	`cloudId` text NOT NULL,
	`regionId` text NOT NULL,
	`providerId` text NOT NULL,
	`name` text NOT NULL,
	CONSTRAINT `fk_zones_cloudId_clouds_id_fk` FOREIGN KEY (`cloudId`) REFERENCES `clouds`(`id`) ON DELETE CASCADE
);
--> statement-breakpoint
CREATE INDEX `migration_events_migration` ON `migration_events` (`migrationId`,`sequence`);--> statement-breakpoint
CREATE INDEX `migrations_created` ON `migrations` (`createdAt`);--> statement-breakpoint
CREATE INDEX `migrations_state` ON `migrations` (`state`);--> statement-breakpoint
CREATE INDEX `virtual_machines_cloud` ON `virtual_machines` (`cloudId`);--> statement-breakpoint
CREATE INDEX `virtual_machines_unique` ON `virtual_machines` (`uniqueId`);