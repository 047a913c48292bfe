-- Rules may change and history be judged anew by them: each such epoch outranks those before it.
ALTER TABLE events COMMENT COLUMN revision '0 when first written; one higher each time later news corrected the event; and 4096 higher with each epoch of the rules that wrote it anew.';
ALTER TABLE campaign_minutes COMMENT COLUMN offset 'Epoch of the rules * 2^48 + the offset up to and including which the counts hold: the version of the row.';
