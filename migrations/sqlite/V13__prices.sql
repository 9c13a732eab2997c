-- Prices are one journal, `prices`, in which a symbol is a key, so that they are replaced many at a time.
-- Each price was a journal of its own.
INSERT INTO journals (name, revision)
    SELECT 'prices', min(count(*), 10000) FROM journal_entries
    WHERE journal LIKE 'prices:%' AND is_current HAVING count(*) > 0;

INSERT INTO journal_entries (journal, revision, key, body, is_open, created_at)
    SELECT 'prices', row_number() OVER (ORDER BY created_at DESC), substr(journal, 8), body, 1, created_at
    FROM journal_entries WHERE journal LIKE 'prices:%' AND is_current
    ORDER BY created_at DESC LIMIT 10000;

DELETE FROM journal_entries WHERE journal LIKE 'prices:%';

DELETE FROM journals WHERE name LIKE 'prices:%';
