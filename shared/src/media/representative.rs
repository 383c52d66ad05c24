//! Which of some pictures stands best for the whole recording.

/// A small grey picture: one byte of luma a pixel, row by row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grey {
    pub width: usize,
    pub luma: Vec<u8>,
}

/// A picture whose mean is outside of these is black or white to a person.
const DARK: f64 = 28.0;
const BRIGHT: f64 = 228.0;
/// Standard deviation below which there is nothing to be seen: a plain colour, fog, the middle of a fade.
const FLAT: f64 = 14.0;
/// Levels of grey are counted in this many groups.
const GROUPS: usize = 32;

/// The index of the picture that stands best for all of them: neither black nor white nor plain, at least as sharp as half of those
/// that are left (a blurred one is not), and of these the one whose levels of grey are nearest to their average. The
/// earlier of two that are equal. `None` where every one is black, white or plain.
pub fn choose(pictures: &[Grey]) -> Option<usize> {
    let mut usable: Vec<(usize, f64, [f64; GROUPS])> = pictures
        .iter()
        .enumerate()
        .filter(|(_, picture)| is_something(picture))
        .map(|(index, picture)| (index, sharpness(picture), levels(picture)))
        .collect();
    let mut sharpest: Vec<f64> = usable.iter().map(|(_, sharpness, _)| *sharpness).collect();
    sharpest.sort_by(f64::total_cmp);
    let median = *sharpest.get(sharpest.len() / 2)?;
    // Of two the sharper one; of many a good half.
    usable.retain(|(_, sharpness, _)| *sharpness >= median);
    let average: [f64; GROUPS] = std::array::from_fn(|group| {
        usable.iter().map(|(_, _, levels)| levels[group]).sum::<f64>() / usable.len() as f64
    });
    let distance = |levels: &[f64; GROUPS]| -> f64 {
        levels.iter().zip(&average).map(|(here, there)| (here - there).powi(2)).sum()
    };
    usable.iter().min_by(|a, b| distance(&a.2).total_cmp(&distance(&b.2))).map(|(index, ..)| *index)
}

fn is_something(picture: &Grey) -> bool {
    let (mean, variance) = spread(&picture.luma);
    // Of no pixels it is not a number, and so in no range.
    (DARK..=BRIGHT).contains(&mean) && variance.sqrt() >= FLAT
}

/// Energy of the steps from each pixel to its right neighbour against the contrast: an edge that is smeared over many pixels has less of
/// it, and a dim picture is not a blurred one.
fn sharpness(picture: &Grey) -> f64 {
    let (mut energy, mut count) = (0.0, 0.0);
    for row in picture.luma.chunks(picture.width.max(1)) {
        for pair in row.windows(2) {
            energy += f64::from(pair[0].abs_diff(pair[1])).powi(2);
            count += 1.0;
        }
    }
    energy / f64::max(count, 1.0) / f64::max(spread(&picture.luma).1, 1.0)
}

/// Mean and variance.
fn spread(luma: &[u8]) -> (f64, f64) {
    let count = luma.len() as f64;
    let mean = luma.iter().map(|luma| f64::from(*luma)).sum::<f64>() / count;
    (mean, luma.iter().map(|luma| (f64::from(*luma) - mean).powi(2)).sum::<f64>() / count)
}

/// Share of the pixels in each group of levels.
fn levels(picture: &Grey) -> [f64; GROUPS] {
    let mut groups = [0.0; GROUPS];
    for luma in &picture.luma {
        groups[usize::from(*luma) * GROUPS / 256] += 1.0 / picture.luma.len() as f64;
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDTH: usize = 64;

    fn picture(luma: impl Fn(usize, usize) -> u8) -> Grey {
        let luma = (0..WIDTH * 36).map(|at| luma(at % WIDTH, at / WIDTH)).collect();
        Grey { width: WIDTH, luma }
    }

    fn plain(level: u8) -> Grey {
        picture(|_, _| level)
    }

    /// Stripes are sharp; the wider their slopes the less.
    fn stripes(base: u8, slope: usize) -> Grey {
        picture(|x, _| {
            let phase = x % 32;
            let rise = phase.min(31 - phase).min(slope) * 100 / slope;
            base + rise as u8
        })
    }

    #[test]
    fn black_white_and_plain_pictures_are_passed_over() {
        assert_eq!(choose(&[plain(0), plain(255), stripes(60, 1), plain(128)]), Some(2));
        assert_eq!(choose(&[plain(0), plain(128), picture(|x, _| (x / 32) as u8 * 8)]), None);
        assert_eq!(choose(&[]), None);
        // Credits: a little white on black.
        let credits = picture(|x, y| if y == 10 && x % 2 == 0 { 255 } else { 0 });
        assert_eq!(choose(&[credits, stripes(40, 2)]), Some(1));
    }

    #[test]
    fn of_alike_pictures_a_blurred_one_is_not_chosen() {
        let blurred = stripes(60, 15);
        assert!(sharpness(&blurred) < sharpness(&stripes(60, 2)));
        assert_eq!(choose(&[blurred.clone(), stripes(60, 2)]), Some(1));
        assert_eq!(choose(&[blurred.clone(), blurred, stripes(60, 1), stripes(62, 1)]), Some(2));
    }

    #[test]
    fn the_most_usual_picture_stands_for_the_others() {
        let odd = stripes(130, 1);
        let pictures = [odd, stripes(60, 1), stripes(60, 1), stripes(60, 1)];
        assert_eq!(choose(&pictures), Some(1), "the first of the equal ones");
    }
}
