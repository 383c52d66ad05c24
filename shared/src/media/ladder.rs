//! Which rungs of a profile a source gets, and how large each is.

use super::profile::Rung;

/// A rung fitted to a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FittedRung {
    pub rung: Rung,
    /// Output size in pixels, even, at least 2.
    pub width: u32,
    pub height: u32,
}

/// A rung above the source is kept only where the next one below would lose at least this much of the picture's size.
const WORTHWHILE: f64 = 1.1;

/// Fits `rungs` to a picture of `width` x `height` square pixels, upright.
///
/// Nothing is upscaled or stretched; the box of a rung is turned for a portrait picture. Of the rungs larger than the
/// source, the smallest size stays, at the source's size, where the rungs below lose something. The rungs of a codec are a
/// ladder of their own, because a player may know no other: at least one of each stays.
pub fn fit(rungs: &[Rung], width: f64, height: f64) -> Vec<FittedRung> {
    // How much of the source a rung can show: 1 or more holds all of it.
    let scale = |rung: &Rung| box_scale(rung, width, height);
    let worthwhile = |rung: &Rung| {
        let beside = || rungs.iter().filter(|other| other.codec == rung.codec).map(scale);
        let best_below = beside().filter(|scale| *scale < 1.0).fold(0.0, f64::max);
        let smallest_above = beside().filter(|scale| *scale >= 1.0).fold(f64::INFINITY, f64::min);
        best_below * WORTHWHILE <= 1.0 && scale(rung) <= smallest_above
    };

    rungs
        .iter()
        .filter(|rung| scale(rung) < 1.0 || worthwhile(rung))
        .map(|rung| {
            let scale = scale(rung).min(1.0);
            let (limit_w, limit_h) = turned_box(rung, width, height);
            FittedRung {
                rung: rung.clone(),
                // Rounding must not leave the box, nor enlarge the source by a pixel.
                width: even(width * scale, limit_w.min(width as u32)),
                height: even(height * scale, limit_h.min(height as u32)),
            }
        })
        .collect()
}

fn turned_box(rung: &Rung, width: f64, height: f64) -> (u32, u32) {
    let portrait = height > width;
    if portrait == (rung.height > rung.width) { (rung.width, rung.height) } else { (rung.height, rung.width) }
}

fn box_scale(rung: &Rung, width: f64, height: f64) -> f64 {
    let (box_w, box_h) = turned_box(rung, width, height);
    (f64::from(box_w) / width).min(f64::from(box_h) / height)
}

/// The even number nearest to `length`, between 2 and `limit`.
fn even(length: f64, limit: u32) -> u32 {
    let nearest = (length / 2.0).round() as u32 * 2;
    nearest.clamp(2, (limit & !1).max(2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::codec::Codec;
    use crate::media::profile::Profile;

    fn sizes(profile: &str, width: f64, height: f64) -> Vec<(String, u32, u32)> {
        fit(&Profile::built_in(profile).unwrap().rungs, width, height)
            .into_iter()
            .map(|fitted| (fitted.rung.name, fitted.width, fitted.height))
            .collect()
    }

    fn row(name: &str, width: u32, height: u32) -> (String, u32, u32) {
        (name.to_owned(), width, height)
    }

    #[test]
    fn a_720p_source_gets_three_rungs() {
        assert_eq!(
            sizes("web", 1280.0, 720.0),
            [row("720p", 1280, 720), row("480p", 854, 480), row("360p", 640, 360)]
        );
    }

    #[test]
    fn an_in_between_source_keeps_its_own_size() {
        assert_eq!(sizes("web", 1440.0, 1074.0)[0], row("1080p", 1440, 1074));
        assert_eq!(sizes("web", 404.0, 720.0), [row("480p", 404, 720), row("360p", 360, 640)]);
        assert_eq!(sizes("web", 853.0, 481.0)[0], row("480p", 852, 480));
    }

    #[test]
    fn an_odd_source_is_not_rounded_up() {
        assert_eq!(sizes("fast", 855.1, 481.0), [row("720p", 854, 480), row("360p", 640, 360)]);
        assert_eq!(sizes("fast", 1.0, 1.0), [row("360p", 2, 2)]);
    }

    #[test]
    fn every_codec_keeps_a_rung() {
        let mut rungs = Profile::built_in("fast").unwrap().rungs;
        let mut best = rungs[0].clone();
        (best.name, best.width, best.height, best.codec) = ("best".into(), 1920, 1080, Codec::Av1);
        rungs.insert(0, best);
        let names = |width, height| {
            fit(&rungs, width, height).into_iter().map(|fitted| (fitted.rung.name, fitted.height)).collect()
        };
        let fitted: Vec<(String, u32)> = names(1280.0, 720.0);
        assert_eq!(fitted, [("best".to_owned(), 720), ("720p".to_owned(), 720), ("360p".to_owned(), 360)]);
        let fitted: Vec<(String, u32)> = names(640.0, 360.0);
        assert_eq!(fitted, [("best".to_owned(), 360), ("360p".to_owned(), 360)]);
    }

    #[test]
    fn a_tiny_source_keeps_one_rung_of_its_own_size() {
        assert_eq!(sizes("web", 64.0, 64.0), [row("360p", 64, 64)]);
    }

    #[test]
    fn rungs_that_share_a_size_stay_together() {
        assert_eq!(sizes("classic", 640.0, 360.0), [row("normal", 640, 360), row("low", 640, 360)]);
        assert_eq!(sizes("classic", 3840.0, 2160.0).len(), 4);
    }

    #[test]
    fn a_wild_shape_stays_inside_the_box() {
        for (name, width, height) in sizes("web", 128_000.0, 64.0) {
            assert!(width <= 1920 && (2..=1080).contains(&height), "{name} {width}x{height}");
        }
    }
}
