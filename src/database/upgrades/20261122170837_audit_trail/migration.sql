CREATE TABLE `audit_entries` (
	`id` text PRIMARY KEY,
	`sequence` integer NOT NULL UNIQUE,
	`at` integer NOT NULL,
	`tokenId` text,
	`tokenName` text,
	`role` text,
	`mutation` text NOT NULL,
	`subjectType` text,
	`subjectId` text,
	`idempotencyKey` text,
	`input` text NOT NULL,
	`outcome` text NOT NULL,
	`answer` text,
	`errorCode` text,
	`previousHash` text NOT NULL UNIQUE,
	`hash` text NOT NULL UNIQUE
);
--> statement-breakpoint
CREATE TABLE `audit_head` (
	`id` integer PRIMARY KEY,
	`sequence` integer NOT NULL,
	`hash` text NOT NULL,
	`signature` text NOT NULL
);
--> statement-breakpoint
ALTER TABLE `api_tokens` ADD `revokedAt` integer;--> statement-breakpoint
CREATE INDEX `audit_entries_at` ON `audit_entries` (`at`);--> statement-breakpoint
CREATE INDEX `audit_entries_key` ON `audit_entries` (`tokenId`,`idempotencyKey`);--> statement-breakpoint
CREATE INDEX `audit_entries_subject` ON `audit_entries` (`subjectType`,`subjectId`);--> statement-breakpoint
CREATE TRIGGER `audit_entries_never_change` BEFORE UPDATE ON `audit_entries` BEGIN SELECT RAISE(ABORT, 'the audit trail is only ever added to'); END;--> statement-breakpoint
CREATE TRIGGER `audit_entries_never_go` BEFORE DELETE ON `audit_entries` BEGIN SELECT RAISE(ABORT, 'the audit trail is only ever added to'); END;--> statement-breakpoint
CREATE TRIGGER `audit_entries_come_last` BEFORE INSERT ON `audit_entries`
WHEN NEW.`sequence` <> (SELECT coalesce(max(`sequence`), 0) + 1 FROM `audit_entries`)
	OR NEW.`previousHash` <> coalesce((SELECT `hash` FROM `audit_entries` ORDER BY `sequence` DESC LIMIT 1), '0000000000000000000000000000000000000000000000000000000000000000')
	OR EXISTS (SELECT 1 FROM `audit_entries` WHERE `id` = NEW.`id` OR `hash` = NEW.`hash`)
BEGIN SELECT RAISE(ABORT, 'the audit trail is only ever added to'); END;--> statement-breakpoint
CREATE TRIGGER `audit_head_goes_forward` BEFORE UPDATE ON `audit_head` WHEN NEW.`sequence` <> OLD.`sequence` + 1 BEGIN SELECT RAISE(ABORT, 'the audit trail is only ever added to'); END;--> statement-breakpoint
CREATE TRIGGER `audit_head_never_goes` BEFORE DELETE ON `audit_head` BEGIN SELECT RAISE(ABORT, 'the audit trail is only ever added to'); END;--> statement-breakpoint
CREATE TRIGGER `audit_head_is_one` BEFORE INSERT ON `audit_head` WHEN EXISTS (SELECT 1 FROM `audit_head`) BEGIN SELECT RAISE(ABORT, 'the audit trail is only ever added to'); END;
