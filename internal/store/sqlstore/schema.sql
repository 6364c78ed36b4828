-- One schema for both databases. BYTES, TEXT and INT stand for what each calls
-- them; TEXT compares by bytes in both. A line of dashes ends a migration:
-- never edit one that was released, add the next below it.

CREATE TABLE docs (
    key   TEXT  NOT NULL PRIMARY KEY,
    rev   INT   NOT NULL,
    kind  TEXT  NOT NULL,
    value BYTES NOT NULL
);

CREATE INDEX docs_kind ON docs (kind, key);

-- state: 0 written, 1 deleted, 2 written and erased by a deletion since.
-- total: bytes of all changes up to this one, ever; it tells what to trim.
-- seq has no gaps; so a missing one was trimmed.
CREATE TABLE changes (
    seq   INT   NOT NULL PRIMARY KEY,
    total INT   NOT NULL,
    state INT   NOT NULL,
    key   TEXT  NOT NULL,
    kind  TEXT  NOT NULL,
    value BYTES NOT NULL
);

CREATE INDEX changes_key ON changes (key);
