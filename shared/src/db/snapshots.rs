//! Old snapshots, which keep the dead versions of busy rows from being cleared away.

use super::{Db, DbError};

/// For how many seconds the oldest snapshot of this database is held by now, as far as the farm's role may see other sessions
/// (`pg_monitor` sees all); zero where there is none.
pub async fn oldest_seconds(db: &Db) -> Result<f64, DbError> {
    let client = db.get().await?;
    let statement = client
        .prepare_cached(
            "select coalesce(max(extract(epoch from clock_timestamp() - xact_start)), 0)::float8 from pg_stat_activity
             where datname = current_database() and backend_type = 'client backend' and backend_xmin is not null
               and pid <> pg_backend_pid()",
        )
        .await?;
    Ok(client.query_one(&statement, &[]).await?.get(0))
}
