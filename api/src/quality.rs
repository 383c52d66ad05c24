//! Checks the wish for a quality report.

use reelmill_shared::job::quality::{Least, MOST_PSNR, Metric, QualityWish};
use reelmill_shared::job::spec::JobKind;
use reelmill_shared::media::profile::FieldError;
use serde_json::{Map, Value};

use crate::submit::fault;

/// The wish as it is frozen into the job, with everything that is wrong with it added to `faults`: `true` for all metrics, or an object.
pub(crate) fn quality(
    kind: JobKind,
    wanted: Option<&Value>,
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
    const KNOWN: [&str; 3] = ["metrics", "min_psnr", "min_ssim"];
    for field in fields.keys().filter(|field| !KNOWN.contains(&field.as_str())) {
        let escaped = field.replace('~', "~0").replace('/', "~1");
        let detail = format!("is not a known field; known are {}", KNOWN.join(", "));
        faults.push(fault(format!("/quality/{escaped}"), detail));
    }
    let metrics = metrics(fields.get("metrics"), faults);
    let mut least = |metric: Metric, field: &str, most: f64| {
        let value = fields.get(field)?;
        let number = value.as_f64().filter(|number| (0.0..=most).contains(number));
        if number.is_none() {
            faults.push(fault(format!("/quality/{field}"), format!("must be a number from 0 to {most}")));
        } else if !metrics.contains(&metric) {
            let detail = format!("needs {metric} among the metrics");
            faults.push(fault(format!("/quality/{field}"), detail));
        }
        number
    };
    let psnr = least(Metric::Psnr, "min_psnr", MOST_PSNR);
    let ssim = least(Metric::Ssim, "min_ssim", 1.0);
    Some(QualityWish { metrics, least: Least { psnr, ssim } })
}

fn metrics(wanted: Option<&Value>, faults: &mut Vec<FieldError>) -> Vec<Metric> {
    let Some(wanted) = wanted else { return Metric::ALL.to_vec() };
    let known = Metric::ALL.iter().map(|metric| metric.as_str()).collect::<Vec<_>>().join(", ");
    let words = wanted.as_array().filter(|words| !words.is_empty());
    let Some(words) = words else {
        faults.push(fault("/quality/metrics", format!("must be a list of at least one of {known}")));
        return Metric::ALL.to_vec();
    };
    let mut metrics = vec![];
    for (index, word) in words.iter().enumerate() {
        match word.as_str().and_then(|word| word.parse().ok()) {
            Some(metric) if !metrics.contains(&metric) => metrics.push(metric),
            Some(_) => {}
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

    fn read(wanted: Value) -> (Option<QualityWish>, Vec<String>) {
        let mut faults = vec![];
        let wish = quality(JobKind::Transcode, Some(&wanted), &mut faults);
        (wish, faults.into_iter().map(|fault| fault.pointer).collect())
    }

    #[test]
    fn true_is_everything_and_false_is_nothing() {
        let all = QualityWish { metrics: Metric::ALL.to_vec(), least: Least::default() };
        assert_eq!(read(json!(true)), (Some(all.clone()), vec![]));
        assert_eq!(read(json!({})), (Some(all), vec![]));
        assert_eq!(read(json!(false)), (None, vec![]));
        let (wish, faults) = read(json!({"metrics": ["ssim", "ssim"], "min_ssim": 0.95}));
        let least = Least { psnr: None, ssim: Some(0.95) };
        assert_eq!((wish, faults), (Some(QualityWish { metrics: vec![Metric::Ssim], least }), vec![]));
    }

    #[test]
    fn every_fault_is_named() {
        for (wanted, pointers) in [
            (json!("yes"), vec!["/quality"]),
            (json!({"metrics": []}), vec!["/quality/metrics"]),
            (json!({"metrics": ["psnr", "vmaf", 7]}), vec!["/quality/metrics/1", "/quality/metrics/2"]),
            (json!({"metrics": ["ssim"], "min_psnr": 30}), vec!["/quality/min_psnr"]),
            (
                json!({"min_psnr": 101, "min_ssim": "high", "min_vmaf": 1}),
                vec!["/quality/min_vmaf", "/quality/min_psnr", "/quality/min_ssim"],
            ),
        ] {
            assert_eq!(read(wanted.clone()).1, pointers, "{wanted}");
        }
        let mut faults = vec![];
        assert_eq!(quality(JobKind::Probe, Some(&json!(true)), &mut faults), None);
        assert_eq!(faults.len(), 1);
    }
}
