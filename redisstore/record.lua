-- A record is one string. It begins with a digit, the version of this layout.
-- What is done is the version and the owner that completed it: an integer to
-- Redis, which keeps it in the fewest bytes. Everything else has a letter for
-- its state before the owner, and fields behind it:
--
--   2<owner>
--   2R<owner><ttl> <redrives> <generation> <second> <micro>
--   2R<owner><ttl> <redrives> <generation> <second> <micro> <start> <first> <crashed> <attempt> <length of memo> <memo><note>
--
-- The short form is a first attempt, begun and first claimed at its token,
-- which is a second and a microsecond. The ttl is in milliseconds, other times
-- are in microseconds. A dead record has its letter in place of the note.
local VERSION = '2'
local STATE = 2 -- the place of the state; a digit there: done
local OWNER, OWNER_END = 3, 20
local FIELDS = 21
local RUNNING, IDLE, ENDING, PAUSED, OPENED, DEAD = '2R', '2I', '2E', '2P', '2O', '2D' -- paused: ending, the lease given up
