//! Server-sent events, as far as a client needs them (https://html.spec.whatwg.org/multipage/server-sent-events.html).

/// A frame that is longer than this is none of ours.
const LONGEST: usize = 4 << 20;

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    /// `message` where the server names none.
    pub(crate) event: String,
    pub(crate) data: String,
}

/// Reads events from bytes as they come, wherever they are cut.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    line: Vec<u8>,
    /// The last byte ended a line as a carriage return: a line feed that follows belongs to it.
    after_return: bool,
    started: bool,
    event: String,
    data: String,
    id: Option<String>,
    last_id: Option<String>,
}

impl Parser {
    /// Takes bytes in and gives the frames they complete.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Vec<Frame> {
        let mut frames = vec![];
        for &byte in bytes {
            match byte {
                b'\n' if self.after_return => self.after_return = false,
                b'\n' | b'\r' => {
                    self.after_return = byte == b'\r';
                    frames.extend(self.end_line());
                }
                _ => {
                    self.after_return = false;
                    if self.line.len() < LONGEST {
                        self.line.push(byte);
                    }
                }
            }
        }
        frames
    }

    /// What to give back as `Last-Event-ID` on a new connection.
    pub(crate) fn last_event_id(&self) -> Option<&str> {
        self.last_id.as_deref().filter(|id| !id.is_empty())
    }

    /// Forgets what is half read; the connection is gone. Where the stream stood is kept.
    pub(crate) fn reconnect(&mut self) {
        *self = Self { last_id: self.last_id.take(), ..Self::default() };
    }

    fn end_line(&mut self) -> Option<Frame> {
        let bytes = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&bytes);
        let line = if std::mem::replace(&mut self.started, true) {
            &*line
        } else {
            line.trim_start_matches('\u{feff}')
        };
        if line.is_empty() {
            return self.dispatch();
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event),
            "data" if self.data.len() + value.len() < LONGEST => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            // Comments (an empty name), `retry` and what we do not know.
            _ => {}
        }
        None
    }

    fn dispatch(&mut self) -> Option<Frame> {
        // Only now: a frame that broke off halfway has not been seen.
        if let Some(id) = self.id.take() {
            self.last_id = Some(id);
        }
        let (event, mut data) = (std::mem::take(&mut self.event), std::mem::take(&mut self.data));
        data.pop()?;
        let event = if event.is_empty() { "message".to_owned() } else { event };
        Some(Frame { event, data })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(event: &str, data: &str) -> Frame {
        Frame { event: event.into(), data: data.into() }
    }

    #[test]
    fn frames_are_read() {
        let mut parser = Parser::default();
        let frames = parser
            .push(b"id: 932-17\nevent: job.queued\ndata: {\"a\":1}\n\n:\n\nevent: progress\ndata:x\n\n");
        assert_eq!(frames, [frame("job.queued", "{\"a\":1}"), frame("progress", "x")]);
        assert_eq!(parser.last_event_id(), Some("932-17"));
    }

    #[test]
    fn any_cut_and_any_line_end_give_the_same() {
        let text =
            "\u{feff}data: é1\r\ndata:2\r\n\r\nid: 7\rdata: {\"t\":\"ü\"}\r\r: alive\n\nevent\ndata\n\n";
        let expected = [frame("message", "é1\n2"), frame("message", "{\"t\":\"ü\"}"), frame("message", "")];
        for size in 1..text.len() {
            let mut parser = Parser::default();
            let frames: Vec<Frame> =
                text.as_bytes().chunks(size).flat_map(|chunk| parser.push(chunk)).collect();
            assert_eq!(frames, expected, "cut every {size} bytes");
            assert_eq!(parser.last_event_id(), Some("7"));
        }
    }

    #[test]
    fn a_frame_that_broke_off_has_not_been_seen() {
        let mut parser = Parser::default();
        parser.push(b"id: 1\ndata: a\n\nid: 2\ndata: b\n");
        parser.reconnect();
        assert_eq!(parser.last_event_id(), Some("1"));
        assert_eq!(parser.push(b"\n\nid: 2\ndata: b\n\n"), [frame("message", "b")]);
        assert_eq!(parser.last_event_id(), Some("2"));
    }

    #[test]
    fn endless_lines_do_not_fill_memory() {
        let mut parser = Parser::default();
        for _ in 0..6 {
            parser.push(&vec![b'x'; 1 << 20]);
        }
        assert!(parser.line.len() <= LONGEST);
    }
}
