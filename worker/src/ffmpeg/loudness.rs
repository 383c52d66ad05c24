//! What FFmpeg's EBU R 128 meter wrote.

use reelmill_shared::media::loudness::Loudness;

/// Reads the last of each figure in a file of `lavfi.r128.KEY=value` lines; `None` where one is missing, as with a track shorter than
/// the meter's tenth of a second.
pub fn read(text: &str) -> Option<Loudness> {
    let last = |key: &str| {
        let values = text.lines().filter_map(|line| line.strip_prefix("lavfi.r128.")?.strip_prefix(key));
        let number = values.filter_map(|rest| rest.strip_prefix('=')).next_back()?;
        number.parse::<f64>().ok().filter(|number| number.is_finite())
    };
    let peak = last("true_peaks_ch0")?.max(last("true_peaks_ch1")?);
    Some(Loudness {
        integrated_lufs: last("I")?,
        // Written to three digits behind the point, as a share of full scale: it was at most half a digit more.
        true_peak_dbtp: (20.0 * (peak + 0.0005).log10() * 100.0).ceil() / 100.0,
        range_lu: last("LRA")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_counts() {
        let text = "frame:0    pts:0  pts_time:0\nlavfi.r128.I=-70.000\nlavfi.r128.LRA=0.000\nlavfi.r128.LRA.low=1.0\n\
                    lavfi.r128.true_peaks_ch0=0.1\nlavfi.r128.true_peaks_ch1=0.1\nframe:1    pts:4800\nlavfi.r128.I=-27.125\n\
                    lavfi.r128.LRA=3.200\nlavfi.r128.LRA.high=-2\nlavfi.r128.true_peaks_ch0=0.044\nlavfi.r128.true_peaks_ch1=0.500\n";
        let read = read(text).unwrap();
        assert_eq!((read.integrated_lufs, read.range_lu), (-27.125, 3.2));
        assert!((-6.02..-5.99).contains(&read.true_peak_dbtp), "{}", read.true_peak_dbtp);
    }

    #[test]
    fn nothing_is_made_up() {
        assert_eq!(read(""), None);
        assert_eq!(
            read(
                "lavfi.r128.I=-23\nlavfi.r128.LRA=nan\nlavfi.r128.true_peaks_ch0=0\nlavfi.r128.true_peaks_ch1=0"
            ),
            None
        );
    }
}
