-- When an edge holds: {"version": ">=14"}, {"provider": "aws", "service": "RDS"}; {} = always. The packs are compiled anew for it.
ALTER TABLE edge ADD COLUMN condition TEXT NOT NULL DEFAULT '{}' CHECK(json_valid(condition));
DELETE FROM knowledge_meta;
