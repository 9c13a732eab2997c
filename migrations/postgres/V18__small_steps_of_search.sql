-- New words wait in a list until it is full, and whoever fills it sorts them into the index within its own transaction. A list
-- of four mebibytes, which is the default, held up a lane for half a second; with this one nobody waits for long. In KiB.
ALTER INDEX messages_by_word SET (gin_pending_list_limit = 512);
