//! Which encoder makes a rendition.

use super::capability::Pool;
use super::state::words;
use crate::media::codec::Codec;

words! {
    /// An encoder, by FFmpeg's name for it. Hardware stands behind software, and in the order in which it is chosen.
    Encoder("encoder") {
        Libx264 = "libx264",
        Libx265 = "libx265",
        LibvpxVp9 = "libvpx-vp9",
        Libsvtav1 = "libsvtav1",
        H264Nvenc = "h264_nvenc",
        HevcNvenc = "hevc_nvenc",
        Av1Nvenc = "av1_nvenc",
        H264Qsv = "h264_qsv",
        HevcQsv = "hevc_qsv",
        Vp9Qsv = "vp9_qsv",
        Av1Qsv = "av1_qsv",
        H264Vaapi = "h264_vaapi",
        HevcVaapi = "hevc_vaapi",
        Vp9Vaapi = "vp9_vaapi",
        Av1Vaapi = "av1_vaapi",
    }
}

/// What encoders of one make have in common: how they are told, and what they run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Make {
    X264,
    X265,
    Vpx,
    SvtAv1,
    /// NVIDIA.
    Nvenc,
    /// Intel Quick Sync.
    Qsv,
    /// What the drivers of Intel and AMD offer on Linux.
    Vaapi,
}

impl Default for Encoder {
    /// What encoded before there was a choice.
    fn default() -> Self {
        Self::Libx264
    }
}

impl Encoder {
    /// The encoder of a codec that needs no hardware.
    pub fn software(codec: Codec) -> Self {
        match codec {
            Codec::H264 => Self::Libx264,
            Codec::Hevc => Self::Libx265,
            Codec::Vp9 => Self::LibvpxVp9,
            Codec::Av1 => Self::Libsvtav1,
        }
    }

    /// What it makes.
    pub fn codec(self) -> Codec {
        match self {
            Self::Libx264 | Self::H264Nvenc | Self::H264Qsv | Self::H264Vaapi => Codec::H264,
            Self::Libx265 | Self::HevcNvenc | Self::HevcQsv | Self::HevcVaapi => Codec::Hevc,
            Self::LibvpxVp9 | Self::Vp9Qsv | Self::Vp9Vaapi => Codec::Vp9,
            Self::Libsvtav1 | Self::Av1Nvenc | Self::Av1Qsv | Self::Av1Vaapi => Codec::Av1,
        }
    }

    /// Whose it is.
    pub fn make(self) -> Make {
        match self {
            Self::Libx264 => Make::X264,
            Self::Libx265 => Make::X265,
            Self::LibvpxVp9 => Make::Vpx,
            Self::Libsvtav1 => Make::SvtAv1,
            Self::H264Nvenc | Self::HevcNvenc | Self::Av1Nvenc => Make::Nvenc,
            Self::H264Qsv | Self::HevcQsv | Self::Vp9Qsv | Self::Av1Qsv => Make::Qsv,
            Self::H264Vaapi | Self::HevcVaapi | Self::Vp9Vaapi | Self::Av1Vaapi => Make::Vaapi,
        }
    }

    /// True where it runs on a graphics processor.
    pub fn is_hardware(self) -> bool {
        matches!(self.make(), Make::Nvenc | Make::Qsv | Make::Vaapi)
    }

    /// The workers that have it.
    pub fn pool(self) -> Pool {
        if self.is_hardware() { Pool::Gpu } else { Pool::Cpu }
    }

    /// True where a picture of this size in pixels is not too small for it. For software as its sources refuse it; for hardware
    /// the largest minimum any maker names, since it differs from chip to chip.
    pub fn takes(self, width: u32, height: u32) -> bool {
        let (least_width, least_height) = match self.make() {
            Make::X264 | Make::Vpx => (2, 2),
            Make::X265 => (16, 16),
            Make::SvtAv1 => (64, 64),
            Make::Nvenc | Make::Qsv | Make::Vaapi => (192, 128),
        };
        width >= least_width && height >= least_height
    }
}

/// Hardware encoders of the pool `gpu`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gpus {
    /// Proven by workers that are there.
    pub here: Vec<Encoder>,
    /// Proven by workers that have been there.
    pub known: Vec<Encoder>,
}

impl Gpus {
    /// The first hardware encoder of `codec` that a worker has; `None` where none has one.
    pub fn ready(&self, codec: Codec) -> Option<Encoder> {
        first(&self.here, codec)
    }

    /// The same where the work may wait: for what is there, else for what has been there, else for the first of all.
    pub fn awaited(&self, codec: Codec) -> Option<Encoder> {
        self.ready(codec).or_else(|| first(&self.known, codec)).or_else(|| first(Encoder::ALL, codec))
    }
}

fn first(among: &[Encoder], codec: Codec) -> Option<Encoder> {
    // In our order, whatever theirs.
    let fits = |encoder: &Encoder| encoder.codec() == codec && encoder.is_hardware();
    Encoder::ALL.iter().copied().filter(fits).find(|encoder| among.contains(encoder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_codec_has_software_and_hardware() {
        for codec in Codec::ALL {
            let software = Encoder::software(codec);
            assert_eq!((software.codec(), software.pool()), (codec, Pool::Cpu));
            let awaited = Gpus::default().awaited(codec).unwrap();
            assert_eq!((awaited.codec(), awaited.pool()), (codec, Pool::Gpu));
            assert_eq!(Gpus::default().ready(codec), None);
        }
    }

    #[test]
    fn what_is_there_goes_before_what_was() {
        let gpus = Gpus { here: vec![Encoder::HevcVaapi], known: vec![Encoder::H264Vaapi, Encoder::HevcQsv] };
        assert_eq!(gpus.awaited(Codec::Hevc), Some(Encoder::HevcVaapi));
        assert_eq!((gpus.ready(Codec::H264), gpus.awaited(Codec::H264)), (None, Some(Encoder::H264Vaapi)));
        assert_eq!(gpus.awaited(Codec::Av1), Some(Encoder::Av1Nvenc));
    }
}
