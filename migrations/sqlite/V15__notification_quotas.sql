-- Puts stored notifications of mentions into the part of the journal that their conversation is, as new ones are: reading
-- the message acknowledges them.
UPDATE journal_entries SET category = substr(body, instr(body, '/#/c/') + 5, 36)
    WHERE journal LIKE 'notifications:%' AND key LIKE 'mention:%' AND is_current AND is_open AND category IS NULL
        AND instr(body, '/#/c/') > 0;
