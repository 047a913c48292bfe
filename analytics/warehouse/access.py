"""The embedded engine's configuration: its directories, users and roles.

Invariants:
1. Pure: texts out of arguments. ``analytics.warehouse.engine`` writes them into files.
2. All rights of chDB's only user come from two roles. A session begins with both; one that has
   done ``SET ROLE reader`` keeps ``SELECT`` and ``SHOW`` on the database, less the tables that no
   question needs (``analytics.operations_tables``). The engine itself refuses everything else
   (tried on 26.9: table functions that reach outside, INSERT, DDL, ``DESCRIBE url(…)``).
3. Rights do not cover the following, which ``analytics.door`` refuses and
   ``analytics.warehouse.fence`` blocks: the scalar ``file``, ``INTO OUTFILE``, output schemas,
   ``SET ROLE``; and tables of ``system``, which chDB lets everybody read
   (``select_from_system_db_requires_grant`` is not taken).
4. What was inserted, or made of it by a merge, is on the disk before the statement is answered: the
   sink commits its offsets then, and a power cut must not take the rows back.

Source: ClickHouse documentation, «users.xml», «Server settings», «GRANT».
"""

from xml.sax.saxutils import escape

from analytics.operations_tables import HIDDEN, RIGHTS

WRITER, READER = "writer", "reader"


def users_xml(database: str) -> str:
    """The engine's users and roles.

    Args:
        database: that readers may read; letters, digits and ``_``.
    """
    hidden = "\n".join(
        f"      <query>REVOKE {RIGHTS} ON `{database}`.{table}</query>" for table in HIDDEN
    )
    return f"""\
<clickhouse>
  <profiles><default/></profiles>
  <quotas><default/></quotas>
  <roles>
    <{WRITER}><grants><query>GRANT ALL ON *.*</query></grants></{WRITER}>
    <{READER}><grants>
      <query>GRANT SELECT, SHOW DATABASES, SHOW TABLES, SHOW COLUMNS ON `{database}`.*</query>
{hidden}
      <query>GRANT SHOW DATABASES, SHOW TABLES, SHOW COLUMNS ON system.*</query>
    </grants></{READER}>
  </roles>
  <users><default>
    <password></password>
    <networks><ip>::1</ip><ip>127.0.0.1</ip></networks>
    <profile>default</profile>
    <quota>default</quota>
    <grants><query>GRANT {WRITER}, {READER}</query></grants>
  </default></users>
</clickhouse>
"""


def config_xml(
    users: str, nothing: str, temporary: str, backups: str, memory_bytes_max: int
) -> str:
    """The engine's configuration.

    Args:
        users: path of the file with ``users_xml``.
        nothing: path of a directory that is and stays empty: where the engine would look for
            files of its users, schemas and scripts.
        temporary: path of a directory for sorting and joining on disk.
        backups: path of the only directory that ``BACKUP`` and ``RESTORE`` use.
        memory_bytes_max: of the whole engine; a query that wants more fails.
    """
    empty = escape(nothing.rstrip("/") + "/")
    return f"""\
<clickhouse>
  <users_config>{escape(users)}</users_config>
  <user_directories><users_xml><path>{escape(users)}</path></users_xml></user_directories>
  <user_files_path>{empty}</user_files_path>
  <format_schema_path>{empty}</format_schema_path>
  <user_scripts_path>{empty}</user_scripts_path>
  <dictionaries_lib_path>{empty}</dictionaries_lib_path>
  <custom_local_disks_base_directory>{empty}</custom_local_disks_base_directory>
  <tmp_path>{escape(temporary.rstrip("/") + "/")}</tmp_path>
  <remote_url_allow_hosts></remote_url_allow_hosts>
  <backups><allowed_path>{escape(backups.rstrip("/") + "/")}</allowed_path></backups>
  <max_server_memory_usage>{memory_bytes_max}</max_server_memory_usage>
  <merge_tree>
    <fsync_after_insert>1</fsync_after_insert>
    <fsync_part_directory>1</fsync_part_directory>
    <min_rows_to_fsync_after_merge>1</min_rows_to_fsync_after_merge>
  </merge_tree>
</clickhouse>
"""
