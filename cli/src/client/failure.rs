//! What can go wrong in a client command, and the exit code it gives.

use std::fmt;
use std::io;
use std::process::ExitCode;

use serde::Deserialize;

/// Shown at the end of `reelmill --help`; scripts rely on it.
pub(crate) const EXIT_CODES: &str = "\
Exit codes of the client commands:
    0  it worked
    1  it did not: the job failed or was cancelled, or the farm made a mistake
    2  the command line is not right: an option, an id, a file that cannot be read
    3  the farm cannot be reached, or cannot answer right now
    4  refused: no key, not a valid key, or one without the scope that is needed
    5  there is no such thing
    6  the farm did not accept the request: a field is not right, or the present state does not allow it
  130  interrupted

Data goes to stdout, progress and errors to stderr.";

/// Why a command ended without doing what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The command was carried out, and the outcome is not the wanted one.
    #[error("{0}")]
    Failed(String),
    /// Found out before anything was sent.
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Unreachable(String),
    /// The farm was there, but the connection did not last.
    #[error("{0}")]
    Broken(String),
    /// No key to show; a key that is not valid is a [`Failure::Refused`].
    #[error("{0}")]
    NoKey(String),
    /// The farm answered, and the answer is no.
    #[error("{0}")]
    Refused(Box<Refusal>),
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Interrupted(String),
    #[error("cannot write to stdout: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    /// The code `--help` promises.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Failed(_) | Self::Output(_) => 1,
            Self::Usage(_) => 2,
            Self::Unreachable(_) | Self::Broken(_) => 3,
            Self::NoKey(_) => 4,
            Self::NotFound(_) => 5,
            Self::Refused(refusal) => refusal.exit_code(),
            Self::Interrupted(_) => 130,
        }
    }

    /// True where whoever read our output has closed it (`| head`): they have what they wanted.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// True where the same request may succeed in a moment.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::Broken(_) => true,
            Self::Refused(refusal) => refusal.status >= 500 || refusal.status == 429,
            _ => false,
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

impl From<Failure> for ExitCode {
    fn from(failure: Failure) -> Self {
        Self::from(failure.exit_code())
    }
}

/// An answer of the farm (problem details, RFC 9457), or of something in front of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) problem: Problem,
}

/// The part of a problem document that is shown.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Problem {
    pub(crate) r#type: String,
    pub(crate) title: String,
    pub(crate) detail: String,
    pub(crate) errors: Vec<ProblemField>,
    pub(crate) request_id: String,
}

/// One field that is not right.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ProblemField {
    pub(crate) pointer: String,
    pub(crate) detail: String,
}

impl std::error::Error for Refusal {}

impl Refusal {
    /// An answer that is no problem document: probably not from a farm at all.
    pub(crate) fn foreign(status: u16) -> Self {
        let detail =
            format!("the server answered with status {status}, not as a farm does; is the address right?");
        Self { status, problem: Problem { detail, ..Problem::default() } }
    }

    fn exit_code(&self) -> u8 {
        match self.status {
            401 | 403 => 4,
            404 | 410 => 5,
            // Wrong host: somebody answers there, but not the farm that was meant.
            421 | 429 | 502..=504 => 3,
            400..=499 => 6,
            _ => 1,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problem = &self.problem;
        match (problem.detail.as_str(), problem.title.as_str()) {
            ("", "") => write!(f, "the server answered with status {}", self.status)?,
            ("", title) => f.write_str(title)?,
            (detail, _) => f.write_str(detail)?,
        }
        // A single fault is the detail already.
        if problem.errors.len() > 1 {
            for field in &problem.errors {
                write!(f, "\n  {} {}", field.pointer, field.detail)?;
            }
        }
        // For whoever reads the farm's logs.
        if self.status >= 500 && !problem.request_id.is_empty() {
            write!(f, " (request {})", problem.request_id)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16) -> u8 {
        let refusal = Refusal { status, ..Refusal::default() };
        Failure::from(refusal).exit_code()
    }

    #[test]
    fn exit_codes_are_those_of_the_help() {
        for status in [401, 403] {
            assert_eq!(refused(status), 4, "{status}");
        }
        assert_eq!(refused(404), 5);
        for status in [400, 409, 412, 413, 415, 422] {
            assert_eq!(refused(status), 6, "{status}");
        }
        for status in [421, 429, 502, 503, 504] {
            assert_eq!(refused(status), 3, "{status}");
        }
        assert_eq!(refused(500), 1);
        assert_eq!(refused(301), 1);
        assert_eq!(Failure::Failed(String::new()).exit_code(), 1);
        assert_eq!(Failure::Usage(String::new()).exit_code(), 2);
        assert_eq!(Failure::Unreachable(String::new()).exit_code(), 3);
        assert_eq!(Failure::Broken(String::new()).exit_code(), 3);
        assert_eq!(Failure::NoKey(String::new()).exit_code(), 4);
        assert_eq!(Failure::NotFound(String::new()).exit_code(), 5);
        assert_eq!(Failure::Interrupted(String::new()).exit_code(), 130);
        for code in ["0", "1", "2", "3", "4", "5", "6", "130"] {
            assert!(EXIT_CODES.contains(&format!(" {code}  ")), "{code}");
        }
    }

    #[test]
    fn several_faults_are_listed_and_one_is_not_repeated() {
        let field = |pointer: &str| ProblemField { pointer: pointer.into(), detail: "is wrong".into() };
        let problem = |errors: Vec<ProblemField>, detail: &str| Refusal {
            status: 422,
            problem: Problem { errors, detail: detail.into(), ..Problem::default() },
        };
        assert_eq!(problem(vec![field("/a")], "/a is wrong").to_string(), "/a is wrong");
        let both = problem(vec![field("/a"), field("/b")], "2 fields are not right").to_string();
        assert_eq!(both, "2 fields are not right\n  /a is wrong\n  /b is wrong");
    }

    #[test]
    fn only_a_closed_pipe_counts_as_one() {
        assert!(Failure::Output(io::Error::from(io::ErrorKind::BrokenPipe)).is_closed_pipe());
        assert!(!Failure::Output(io::Error::from(io::ErrorKind::StorageFull)).is_closed_pipe());
    }
}
