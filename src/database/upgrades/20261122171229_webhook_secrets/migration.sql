CREATE TABLE `webhook_secrets` (
	`name` text PRIMARY KEY,
	`sealed` text NOT NULL,
	`setAt` integer NOT NULL
);
