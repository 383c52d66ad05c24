//! Flags of the boxes of a movie fragment (ISO/IEC 14496-12, 8.8), shared by the reader and the writer.

/// `tfhd` states where data offsets count from.
pub(super) const TFHD_BASE_DATA_OFFSET: u32 = 0x00_0001;
/// `tfhd` states which sample description is used.
pub(super) const TFHD_SAMPLE_DESCRIPTION: u32 = 0x00_0002;
/// `tfhd` states a default duration.
pub(super) const TFHD_DURATION: u32 = 0x00_0008;
/// `tfhd` states a default size.
pub(super) const TFHD_SIZE: u32 = 0x00_0010;
/// `tfhd` states default sample flags.
pub(super) const TFHD_FLAGS: u32 = 0x00_0020;
/// Data offsets count from the first byte of the `moof`.
pub(super) const TFHD_BASE_IS_MOOF: u32 = 0x02_0000;

/// `trun` states where its samples' data begins.
pub(super) const TRUN_DATA_OFFSET: u32 = 0x001;
/// `trun` states flags for its first sample.
pub(super) const TRUN_FIRST_FLAGS: u32 = 0x004;
/// `trun` states a duration for each sample.
pub(super) const TRUN_DURATION: u32 = 0x100;
/// `trun` states a size for each sample.
pub(super) const TRUN_SIZE: u32 = 0x200;
/// `trun` states flags for each sample.
pub(super) const TRUN_FLAGS: u32 = 0x400;
/// `trun` states a composition offset for each sample.
pub(super) const TRUN_COMPOSITION_OFFSET: u32 = 0x800;

/// Sample flags: decoding cannot begin at this sample.
pub(super) const SAMPLE_IS_NON_SYNC: u32 = 0x0001_0000;
/// Sample flags: the sample depends on others.
pub(super) const SAMPLE_DEPENDS_ON_OTHERS: u32 = 0x0100_0000;
/// Sample flags: the sample depends on no other.
pub(super) const SAMPLE_DEPENDS_ON_NONE: u32 = 0x0200_0000;
