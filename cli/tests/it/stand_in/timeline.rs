//! What has been broadcast so far.

/// Frames of a part, of 0.04 s each.
pub const PART_FRAMES: u64 = 5;
/// Seconds of a part.
pub const PART: f64 = 0.2;

/// A segment, whole or still being made.
#[derive(Debug, Clone)]
pub struct Segment {
    pub msn: u64,
    /// How many parts of it there are.
    pub parts: u64,
    pub whole: bool,
    /// Nothing was broadcast; the segment stands for the time.
    pub gap: bool,
    /// The publisher was another one before.
    pub discontinuity: bool,
    /// Which publisher made it: times begin at zero with each.
    pub publisher: u64,
    /// Frames of its publisher before it.
    pub first_frame: u64,
    /// Milliseconds since the broadcast began.
    pub begins: u64,
}

/// The broadcast up to now: the last segment is the one being made, and may be empty.
#[derive(Debug, Clone)]
pub struct Timeline {
    pub segments: Vec<Segment>,
    pub parts_per_segment: u64,
    pub ended: bool,
}

impl Timeline {
    pub fn new(parts_per_segment: u64) -> Self {
        let first = Segment {
            msn: 100,
            parts: 0,
            whole: false,
            gap: false,
            discontinuity: false,
            publisher: 0,
            first_frame: 0,
            begins: 0,
        };
        let mut timeline = Self { segments: vec![first], parts_per_segment, ended: false };
        (0..14 * parts_per_segment).for_each(|_| timeline.add_part());
        timeline
    }

    pub fn open(&self) -> &Segment {
        self.segments.last().unwrap()
    }

    pub fn segment(&self, msn: u64) -> Option<&Segment> {
        self.segments.iter().find(|segment| segment.msn == msn)
    }

    pub fn add_part(&mut self) {
        let full = self.parts_per_segment;
        let open = self.segments.last_mut().unwrap();
        open.parts += 1;
        if open.parts == full {
            self.close();
        }
    }

    fn close(&mut self) {
        let open = self.segments.last_mut().unwrap();
        open.whole = true;
        let (msn, publisher) = (open.msn + 1, open.publisher);
        let first_frame = open.first_frame + open.parts * PART_FRAMES;
        let begins = open.begins + open.parts * 200;
        let next = Segment {
            msn,
            parts: 0,
            whole: false,
            gap: false,
            discontinuity: false,
            publisher,
            first_frame,
            begins,
        };
        self.segments.push(next);
    }

    /// The publisher drops and another one comes: a segment that ended early, a gap, and times from zero on.
    pub fn next_publisher(&mut self) {
        if self.open().parts > 0 {
            self.close();
        }
        let open = self.segments.last_mut().unwrap();
        open.gap = true;
        let mut next = open.clone();
        open.whole = true;
        open.parts = self.parts_per_segment;
        next.begins += open.parts * 200;
        (next.msn, next.gap, next.discontinuity, next.publisher, next.first_frame) =
            (open.msn + 1, false, true, open.publisher + 1, 0);
        self.segments.push(next);
    }

    pub fn end(&mut self) {
        if self.open().parts > 0 {
            self.close();
        }
        self.ended = true;
    }

    /// Whether that part is there, as `_HLS_msn` and `_HLS_part` mean it.
    pub fn has_part(&self, msn: u64, part: u64) -> bool {
        let open = self.open();
        match self.segment(msn) {
            Some(segment) if part < segment.parts => true,
            // Too many: the first of the next.
            Some(segment) if segment.whole => msn + 1 < open.msn || open.parts > 0,
            Some(_) => false,
            None => msn < open.msn,
        }
    }
}
