-- The message key of an event may change as its campaign may: what names its message by the sender's
-- Message-ID alone moves to the message that has events with both ids. The sink leaves the same
-- tombstone for it.
ALTER TABLE events COMMENT COLUMN message_key 'Identity of message and recipient: the unit of every unique count. Of a bounce that names its message by the sender\'s Message-ID alone, that of the message with this Message-ID, once it is known.';
ALTER TABLE events COMMENT COLUMN is_deleted '1 on the tombstone that an event leaves under the campaign or the message it moved from; FINAL hides it.';
