//! Loudness by EBU R 128: what was measured of a track, and the one gain that brings all of it to a target.

use serde::{Deserialize, Serialize};

/// What a track's true peak may be after its gain, in dBTP (EBU R 128 s1 asks for -1).
pub const CEILING_DBTP: f64 = -1.0;
/// What is kept free below that, in dB: the encoder does not give peaks back as it got them (0.2 dB more were seen, of noise at
/// 128 kbit/s).
const HEADROOM_DB: f64 = 0.5;
/// No track is raised by more: what is that soft is noise.
const MOST_GAIN_DB: f64 = 30.0;
/// From here on down FFmpeg's meter found nothing above its gate.
const SILENCE_LUFS: f64 = -69.9;

/// A track, measured over all its length.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Loudness {
    /// LUFS.
    pub integrated_lufs: f64,
    pub true_peak_dbtp: f64,
    /// LU.
    pub range_lu: f64,
}

/// What becomes of a track's loudness. Kept in the job's result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Normalised {
    /// Name of the rendition.
    pub name: String,
    /// `None` where the track is silent.
    pub measured: Option<Loudness>,
    /// LUFS.
    pub target_lufs: f64,
    /// One for all of the track.
    pub gain_db: f64,
    /// Why the target is not reached, in plain language; `None` where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Normalised {
    /// Decides on the gain of the track `name`.
    pub fn new(name: &str, measured: Option<Loudness>, target_lufs: f64) -> Self {
        let measured = measured.filter(|loudness| loudness.integrated_lufs > SILENCE_LUFS);
        let (gain, note) = match measured {
            None => (0.0, Some("the track is silent".to_owned())),
            Some(loudness) => {
                let wanted = target_lufs - loudness.integrated_lufs;
                let room = CEILING_DBTP - HEADROOM_DB - loudness.true_peak_dbtp;
                // Lowered as far as it is asked for, but raised only where there is room.
                let gain = wanted.min(room.max(0.0)).min(MOST_GAIN_DB);
                let short = wanted - gain;
                let note = (short > 0.05).then(|| {
                    let why =
                        if gain < MOST_GAIN_DB { "its peaks leave no more room" } else { "it is too soft" };
                    format!("the track stays {short:.1} LU under the target: {why}")
                });
                (gain, note)
            }
        };
        // As it is written on the command line: what is told is what was done.
        let gain_db = (gain * 100.0).round() / 100.0;
        Self { name: name.to_owned(), measured, target_lufs, gain_db, note }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gain(integrated_lufs: f64, true_peak_dbtp: f64, target: f64) -> Normalised {
        Normalised::new("audio", Some(Loudness { integrated_lufs, true_peak_dbtp, range_lu: 5.0 }), target)
    }

    #[test]
    fn a_track_is_brought_to_the_target_where_its_peaks_let_it() {
        assert_eq!((gain(-27.12, -12.0, -23.0).gain_db, gain(-27.12, -12.0, -23.0).note), (4.12, None));
        assert_eq!(gain(-14.0, 0.4, -23.0).gain_db, -9.0);
        let limited = gain(-27.0, -4.0, -16.0);
        assert_eq!(limited.gain_db, 2.5);
        assert!(limited.note.unwrap().contains("8.5 LU under the target: its peaks"));
        assert_eq!(
            gain(-20.0, -0.2, -16.0).gain_db,
            0.0,
            "never lowered to make room for what was not asked"
        );
        let soft = gain(-65.0, -50.0, -23.0);
        assert_eq!(soft.gain_db, MOST_GAIN_DB);
        assert!(soft.note.unwrap().contains("too soft"));
    }

    #[test]
    fn silence_stays_silence() {
        for silent in [None, Some(Loudness { integrated_lufs: -70.0, true_peak_dbtp: -90.0, range_lu: 0.0 })]
        {
            let kept = Normalised::new("audio", silent, -23.0);
            assert_eq!((kept.gain_db, kept.measured), (0.0, None));
            assert!(kept.note.is_some());
        }
    }
}
