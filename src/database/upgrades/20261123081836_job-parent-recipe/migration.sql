ALTER TABLE `jobs` ADD `parentRecipe` text;--> statement-breakpoint
UPDATE `jobs` SET `parentRecipe` = (SELECT `recipe` FROM `parent_vms` WHERE `parent_vms`.`id` = `jobs`.`parentVmId`) WHERE `parentVmId` IS NOT NULL;
