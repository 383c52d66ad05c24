//! What earlier work took, for estimates.

use super::{Db, DbError};
use crate::ids::ProjectId;
use crate::job::estimate::{History, MadeRendition};
use crate::media::profile::Profile;

/// Attempts and renditions that are looked at: enough for the newest of several kinds.
const LOOKED_AT: i64 = 300;

/// What the newest attempts of the whole farm took, and how large the newest renditions of this project came out: machines are the
/// farm's, but what videos look like is a project's own affair.
pub async fn newest(db: &Db, project: ProjectId) -> Result<History, DbError> {
    let client = db.get().await?;
    let mut history = History::default();
    let attempts = client
        .query(
            "select t.spec, a.cpu_seconds
             from attempts a join tasks t on t.id = a.task_id
             where a.cpu_seconds is not null and a.outcome = 'succeeded' and t.kind in ('encode', 'audio')
             order by a.finished_at desc limit $1",
            &[&LOOKED_AT],
        )
        .await?;
    for row in attempts {
        // Orders of a version that this one does not know teach nothing.
        if let Ok(orders) = serde_json::from_value(row.get("spec")) {
            history.add_attempt(&orders, row.get("cpu_seconds"));
        }
    }
    let renditions = client
        .query(
            "select r.rung, r.width, r.height, r.fps_num, r.fps_den, r.average_bandwidth, j.spec -> 'profile' as profile
             from sets s join renditions r on r.set_id = s.id join jobs j on j.id = s.job_id
             where s.project_id = $1 and r.kind = 'video' and r.duration_ticks > 0
             order by s.id desc limit $2",
            &[&project.0, &LOOKED_AT],
        )
        .await?;
    for row in renditions {
        let made = || {
            let profile: Profile = serde_json::from_value(row.get("profile")).ok()?;
            let rung = profile.rungs.iter().find(|rung| rung.name == row.get::<_, &str>("rung"))?;
            let side = |column| row.get::<_, Option<i32>>(column).map(f64::from);
            let pixels = side("width")? * side("height")?;
            let rate = side("fps_num")? / side("fps_den")?;
            Some(MadeRendition {
                codec: rung.codec,
                preset: profile.preset,
                rate_control: rung.rate_control,
                pixels,
                bits_per_pixel: row.get::<_, i64>("average_bandwidth") as f64 / (pixels * rate),
            })
        };
        made().into_iter().for_each(|made| history.add_rendition(made));
    }
    Ok(history)
}
