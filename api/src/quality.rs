//! Checks the wish for a quality report.

use reelmill_shared::db::{Db, DbError, workers};
use reelmill_shared::job::capability::{Capability, Pool};
use reelmill_shared::job::quality::{Least, MOST_PSNR, MOST_VMAF, Metric, QualityWish};
use reelmill_shared::job::spec::JobKind;
use reelmill_shared::media::profile::FieldError;
use serde_json::{Map, Value};

use crate::submit::fault;

/// What the farm can measure now, where `wanted` is a wish for a report.
pub(crate) async fn measurable(db: &Db, wanted: Option<&Value>) -> Result<Vec<Metric>, DbError> {
    let mut metrics = vec![];
    for metric in Metric::ALL.iter().filter(|_| wanted.is_some()) {
        let needs = metric.needs();
        if needs == Capability::Base || workers::any_has(db, Pool::Cpu, needs).await? {
            metrics.push(*metric);
        }
    }
    Ok(metrics)
}

/// The wish as it is frozen into the job, with everything that is wrong with it added to `faults`: `true` for all that is `measurable`,
/// or an object.
pub(crate) fn quality(
    kind: JobKind,
    wanted: Option<&Value>,
    measurable: &[Metric],
    faults: &mut Vec<FieldError>,
) -> Option<QualityWish> {
    let wanted = wanted.filter(|wanted| **wanted != Value::Bool(false))?;
    if kind != JobKind::Transcode {
        faults.push(fault("/quality", "only goes with kind transcode"));
        return None;
    }
    let empty = Map::new();
    let fields = match wanted {
        Value::Bool(_) => &empty,
        Value::Object(fields) => fields,
        _ => {
            faults.push(fault("/quality", "must be true, false or an object"));
            return None;
        }
    };
    const KNOWN: [&str; 4] = ["metrics", "min_psnr", "min_ssim", "min_vmaf"];
    for field in fields.keys().filter(|field| !KNOWN.contains(&field.as_str())) {
        let escaped = field.replace('~', "~0").replace('/', "~1");
        let detail = format!("is not a known field; known are {}", KNOWN.join(", "));
        faults.push(fault(format!("/quality/{escaped}"), detail));
    }
    let metrics = match fields.get("metrics") {
        Some(words) => metrics(words, measurable, faults),
        None => measurable.to_vec(),
    };
    let mut least = |metric: Metric, field: &str, most: f64| {
        let value = fields.get(field)?;
        let number = value.as_f64().filter(|number| (0.0..=most).contains(number));
        if number.is_none() {
            faults.push(fault(format!("/quality/{field}"), format!("must be a number from 0 to {most}")));
        } else if !metrics.contains(&metric) {
            let detail = match fields.contains_key("metrics") {
                true => format!("needs {metric} among the metrics"),
                false => no_worker(metric),
            };
            faults.push(fault(format!("/quality/{field}"), detail));
        }
        number
    };
    let psnr = least(Metric::Psnr, "min_psnr", MOST_PSNR);
    let ssim = least(Metric::Ssim, "min_ssim", 1.0);
    let vmaf = least(Metric::Vmaf, "min_vmaf", MOST_VMAF);
    Some(QualityWish { metrics, least: Least { psnr, ssim, vmaf } })
}

/// Why a metric of this version is not measured here.
fn no_worker(metric: Metric) -> String {
    format!("{metric} cannot be measured: no worker's FFmpeg was built with {}", metric.needs())
}

/// Those named in `wanted`, among them those that are not measurable, which are faults.
fn metrics(wanted: &Value, measurable: &[Metric], faults: &mut Vec<FieldError>) -> Vec<Metric> {
    let known = Metric::ALL.iter().map(|metric| metric.as_str()).collect::<Vec<_>>().join(", ");
    let words = wanted.as_array().filter(|words| !words.is_empty());
    let Some(words) = words else {
        faults.push(fault("/quality/metrics", format!("must be a list of at least one of {known}")));
        return measurable.to_vec();
    };
    let mut metrics = vec![];
    for (index, word) in words.iter().enumerate() {
        match word.as_str().and_then(|word| word.parse().ok()) {
            Some(metric) if metrics.contains(&metric) => {}
            Some(metric) => {
                metrics.push(metric);
                if !measurable.contains(&metric) {
                    faults.push(fault(format!("/quality/metrics/{index}"), no_worker(metric)));
                }
            }
            None => {
                let detail = format!("is not measured by this version, which measures {known}");
                faults.push(fault(format!("/quality/metrics/{index}"), detail));
            }
        }
    }
    metrics
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn checked(wanted: &Value, measurable: &[Metric]) -> (Option<QualityWish>, Vec<FieldError>) {
        let mut faults = vec![];
        (quality(JobKind::Transcode, Some(wanted), measurable, &mut faults), faults)
    }

    /// Where every metric is measurable.
    fn read(wanted: Value) -> (Option<QualityWish>, Vec<String>) {
        let (wish, faults) = checked(&wanted, Metric::ALL);
        (wish, faults.into_iter().map(|fault| fault.pointer).collect())
    }

    #[test]
    fn true_is_everything_and_false_is_nothing() {
        let all = QualityWish { metrics: Metric::ALL.to_vec(), least: Least::default() };
        assert_eq!(read(json!(true)), (Some(all.clone()), vec![]));
        assert_eq!(read(json!({})), (Some(all), vec![]));
        assert_eq!(read(json!(false)), (None, vec![]));
        let (wish, faults) = read(json!({"metrics": ["ssim", "ssim"], "min_ssim": 0.95}));
        let least = Least { ssim: Some(0.95), ..Least::default() };
        assert_eq!((wish, faults), (Some(QualityWish { metrics: vec![Metric::Ssim], least }), vec![]));
    }

    #[test]
    fn every_fault_is_named() {
        for (wanted, pointers) in [
            (json!("yes"), vec!["/quality"]),
            (json!({"metrics": []}), vec!["/quality/metrics"]),
            (json!({"metrics": ["psnr", "sharpness", 7]}), vec!["/quality/metrics/1", "/quality/metrics/2"]),
            (json!({"metrics": ["ssim"], "min_psnr": 30}), vec!["/quality/min_psnr"]),
            (
                json!({"min_psnr": 101, "min_ssim": "high", "min_vmaf": 100.5, "max_vmaf": 1}),
                vec!["/quality/max_vmaf", "/quality/min_psnr", "/quality/min_ssim", "/quality/min_vmaf"],
            ),
        ] {
            assert_eq!(read(wanted.clone()).1, pointers, "{wanted}");
        }
        let mut faults = vec![];
        assert_eq!(quality(JobKind::Probe, Some(&json!(true)), Metric::ALL, &mut faults), None);
        assert_eq!(faults.len(), 1);
    }

    #[test]
    fn what_no_worker_measures_is_left_out_unless_it_is_named() {
        for everything in [json!(true), json!({}), json!({"min_psnr": 30})] {
            let (wish, faults) = checked(&everything, Metric::EVERYWHERE);
            assert_eq!((wish.unwrap().metrics.as_slice(), faults), (Metric::EVERYWHERE, vec![]));
            assert_eq!(checked(&everything, Metric::ALL).0.unwrap().metrics, Metric::ALL);
        }
        for (named, pointer) in [
            (json!({"metrics": ["ssim", "vmaf"], "min_vmaf": 90}), "/quality/metrics/1"),
            (json!({"min_vmaf": 90}), "/quality/min_vmaf"),
        ] {
            let (_, faults) = checked(&named, Metric::EVERYWHERE);
            let detail = "vmaf cannot be measured: no worker's FFmpeg was built with libvmaf";
            assert_eq!(faults, [fault(pointer, detail)]);
            let (wish, faults) = checked(&named, Metric::ALL);
            assert_eq!((wish.unwrap().least.vmaf, faults), (Some(90.0), vec![]));
        }
        let (_, faults) = checked(&json!({"metrics": ["psnr"], "min_vmaf": 90}), Metric::EVERYWHERE);
        assert_eq!(faults, [fault("/quality/min_vmaf", "needs vmaf among the metrics")]);
    }
}
