//! libx265.

use super::{Wish, words, x264};

pub(super) fn options(wish: &Wish) -> Vec<String> {
    // Rows of one frame in parallel where there are threads for it, never several frames: their rate control would depend on chance.
    let pools = if wish.threads > 1 { wish.threads.to_string() } else { "none".to_owned() };
    let params = [
        "scenecut=0".to_owned(),
        "open-gop=0".to_owned(),
        format!("pools={pools}"),
        format!("wpp={}", u32::from(wish.threads > 1)),
        "frame-threads=1".to_owned(),
        "lookahead-slices=0".to_owned(),
        // Its settings as text in every stream: they name the threads, which must not matter.
        "info=0".to_owned(),
        "log-level=error".to_owned(),
    ];
    let mut options = words(["-preset", wish.preset.as_str()]);
    options.extend(x264::rate(wish.rate_control));
    options.extend(words(["-tag:v", "hvc1", "-x265-params", &params.join(":")]));
    options
}

#[cfg(test)]
mod tests {
    use reelmill_shared::job::encoder::Encoder;

    use super::super::tests::{CRF, line, wish};
    use super::super::{Wish, options};

    #[test]
    fn closes_its_gops_and_leaves_nothing_to_chance() {
        let one = line(Encoder::Libx265, CRF);
        assert!(
            one.contains(
                "-preset medium -crf 30 -maxrate 1000000 -bufsize 2000000 -tag:v hvc1 -x265-params \
                 scenecut=0:open-gop=0:pools=none:wpp=0:frame-threads=1:lookahead-slices=0:info=0:log-level=error"
            ),
            "{one}"
        );
        let wish = Wish { threads: 4, ..wish(Encoder::Libx265, CRF) };
        assert!(options(&wish).join(" ").contains(":pools=4:wpp=1:frame-threads=1:"));
    }
}
