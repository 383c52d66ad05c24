//! How near segments are to their source, where a job asked for it.

use tokio_postgres::Row;

use super::{Db, DbError, GenericClient};
use crate::ids::SetId;
use crate::job::quality::{Figure, SegmentQuality};

/// Publishes what was measured of segments of a set. In the caller's guarded transaction.
pub(crate) async fn publish(
    client: &impl GenericClient,
    set: SetId,
    measured: &[SegmentQuality],
) -> Result<(), DbError> {
    let rungs: Vec<&str> = measured.iter().map(|segment| segment.rung.as_str()).collect();
    let numbers: Vec<i32> = measured.iter().map(|segment| segment.number as i32).collect();
    let frames: Vec<i32> = measured.iter().map(|segment| segment.frames as i32).collect();
    let column = |value: fn(&SegmentQuality) -> Option<f64>| measured.iter().map(value).collect::<Vec<_>>();
    let mse = column(|segment| segment.square_error.map(|figure| figure.mean));
    let worst_mse = column(|segment| segment.square_error.map(|figure| figure.worst));
    let ssim = column(|segment| segment.similarity.map(|figure| figure.mean));
    let worst_ssim = column(|segment| segment.similarity.map(|figure| figure.worst));
    let vmaf = column(|segment| segment.vmaf.map(|figure| figure.mean));
    let worst_vmaf = column(|segment| segment.vmaf.map(|figure| figure.worst));
    client
        .execute(
            "insert into segment_quality
                 (set_id, rung, number, frames, mse, worst_mse, ssim, worst_ssim, vmaf, worst_vmaf)
             select $1, q.*
             from unnest($2::text[], $3::int[], $4::int[], $5::float8[], $6::float8[], $7::float8[], $8::float8[],
                         $9::float8[], $10::float8[]) as q",
            &[&set.0, &rungs, &numbers, &frames, &mse, &worst_mse, &ssim, &worst_ssim, &vmaf, &worst_vmaf],
        )
        .await?;
    Ok(())
}

/// What was measured of a set, in the order of its segments.
pub async fn of_set(db: &Db, set: SetId) -> Result<Vec<SegmentQuality>, DbError> {
    let rows = db
        .get()
        .await?
        .query(
            "select rung, number, frames, mse, worst_mse, ssim, worst_ssim, vmaf, worst_vmaf
             from segment_quality where set_id = $1 order by rung, number",
            &[&set.0],
        )
        .await?;
    Ok(rows.iter().map(read).collect())
}

fn read(row: &Row) -> SegmentQuality {
    let figure = |mean: &str, worst: &str| {
        let (mean, worst) = row.get::<_, Option<f64>>(mean).zip(row.get(worst))?;
        Some(Figure { mean, worst })
    };
    SegmentQuality {
        rung: row.get("rung"),
        number: row.get::<_, i32>("number").max(0) as u32,
        frames: row.get::<_, i32>("frames").max(0) as u32,
        square_error: figure("mse", "worst_mse"),
        similarity: figure("ssim", "worst_ssim"),
        vmaf: figure("vmaf", "worst_vmaf"),
    }
}
