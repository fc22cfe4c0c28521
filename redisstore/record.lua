-- A record is one string. It begins with a digit, the version of this layout. The
-- record of done work is the version and the owner that completed it, both digits,
-- so that Redis stores it as an integer, in the fewest bytes. Every other record
-- has a letter for its state before the owner, and fields after it:
--
--   2<owner>
--   2R<owner><ttl> <redrives> <generation> <second> <micro>
--   2R<owner><ttl> <redrives> <generation> <second> <micro> <start> <first> <crashed> <attempt> <length of memo> <memo><note>
--
-- The second line is the short form, for a first attempt. Its token is the time of
-- the claim, in seconds and microseconds, and its start and first are the same time.
-- The ttl is in milliseconds, other times are in microseconds. A dead record has its
-- letter ID in place of the note.
local VERSION = '2'
local STATE = 2 -- index of the state; a digit here means done
local OWNER, OWNER_END = 3, 20
local FIELDS = 21
local RUNNING, IDLE, ENDING, PAUSED, OPENED, DEAD = '2R', '2I', '2E', '2P', '2O', '2D' -- paused: ending, with its lease released
