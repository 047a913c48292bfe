"""Files by key, in a folder or in an object store such as S3: where snapshots are uploaded to."""
