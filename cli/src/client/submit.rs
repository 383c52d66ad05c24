//! `job submit`.

use clap::builder::{OsStringValueParser, PossibleValuesParser, TypedValueParser};
use reelmill_shared::ids::JobId;
use reelmill_shared::job::spec::{JobKind, LadderChoice, Output};
use serde_json::{Map, Value, json};
use url::Url;
use uuid::Uuid;

use super::documents::{Job, Recording};
use super::failure::Failure;
use super::input::Input;
use super::output::{Format, note, print};
use super::upload::{Source, send_file};
use super::watch::watch;
use super::{Context, dry_run, job};

/// Options of `job submit`.
#[derive(Debug, clap::Args)]
pub(crate) struct SubmitArgs {
    /// A file (it is uploaded), an http, https or file URL (the farm fetches it), upload:ID, or recording:ID
    #[arg(value_name = "INPUT", value_parser = OsStringValueParser::new().try_map(Input::parse))]
    input: Input,
    /// What to do; transcode where it is left out
    #[arg(long, value_parser = PossibleValuesParser::new(JobKind::ALL.iter().map(|kind| kind.as_str())))]
    kind: Option<String>,
    /// Name of a profile, or @FILE with one in JSON; `web` where it is left out
    #[arg(long, value_name = "NAME|@FILE")]
    profile: Option<String>,
    /// Title of the new recording; the file's name where it is left out
    #[arg(long)]
    title: Option<String>,
    /// Rank within the project, 0 to 100; 50 where it is left out
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=100))]
    priority: Option<u8>,
    /// What to make: hls, dash, mp4, thumbnail, storyboard; all but mp4 where it is left out, of short videos no storyboard. May be given
    /// several times
    #[arg(long = "output", value_name = "OUTPUT", value_parser = PossibleValuesParser::new(Output::ALL.iter().map(|output| output.as_str())))]
    outputs: Vec<String>,
    /// Seconds into the input at which the recording begins
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    start: Option<f64>,
    /// Seconds into the input at which it ends
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    end: Option<f64>,
    /// Which rungs are made: all that the source has something for, or only those that a few samples of it show to be worth it
    #[arg(long, value_parser = PossibleValuesParser::new(LadderChoice::ALL.iter().map(|choice| choice.as_str())))]
    ladder: Option<String>,
    /// Measure how near each rendition is to its source
    #[arg(long)]
    quality: bool,
    /// A JSON object with more of the request's fields, as the API takes them (see /docs of the farm), or - for standard input; what is
    /// given by options comes before it
    #[arg(long, value_name = "FILE")]
    body: Option<String>,
    /// Kept with the recording (or job) and given back. May be given several times
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    metadata: Vec<(String, String)>,
    /// The same key gives the same job for a day, however often it is sent; an upload goes on where it stood
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Where the job's events are sent, besides the project's webhooks
    #[arg(long, value_name = "URL")]
    callback_url: Option<Url>,
    /// Encode even what the project has encoded before
    #[arg(long)]
    force: bool,
    /// Only tell what would be done: tasks, ladder, commands, an estimate
    #[arg(long, conflicts_with = "watch")]
    dry_run: bool,
    /// Follow the job to its end
    #[arg(long)]
    watch: bool,
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("must be KEY=VALUE".to_owned()),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=1e7).contains(&seconds) => Ok(seconds),
        _ => Err("must be a number of seconds from 0".to_owned()),
    }
}

/// A request without its input.
#[derive(Debug)]
struct Order {
    /// Where it goes: a transcode of something new is a recording with a title of its own; everything else is only a job.
    collection: &'static str,
    body: Value,
}

/// Runs `job submit`.
pub(crate) async fn run(context: &Context, args: SubmitArgs) -> Result<(), Failure> {
    let Order { collection, body } = args.order()?;
    // A name that nobody knows must not cost an upload.
    if let Some(name) = body["profile"].as_str() {
        context.farm.get::<Value>(&["profiles", name]).await?;
    }
    let own_key = args.idempotency_key.as_deref();
    let input = match &args.input {
        Input::File(path) => {
            let upload = send_file(context, Source::open(path).await?, own_key).await?;
            Some(json!({ "upload_id": upload }))
        }
        other => other.to_json(),
    };
    let key = own_key.map_or_else(|| Uuid::now_v7().to_string(), str::to_owned);
    let body = with(body, "input", input);
    if args.dry_run {
        return dry_run::run(context, collection, &body).await;
    }
    let id = send(context, collection, &body, &key).await?;
    if args.watch {
        note(&format!("job {id}"));
        let done = watch(context, id).await?;
        return if context.format == Format::Table { show(context, &done) } else { Ok(()) };
    }
    let document = context.farm.get::<Job>(&["jobs", &id.to_string()]).await?;
    match context.format {
        Format::Json => print(&document.text),
        Format::Table => {
            show(context, &document.view)?;
            note(&format!("follow it: reelmill job watch {id}"));
            Ok(())
        }
    }
}

fn show(context: &Context, job: &Job) -> Result<(), Failure> {
    print(&job::report(&context.farm, job))
}

async fn send(context: &Context, collection: &str, body: &Value, key: &str) -> Result<JobId, Failure> {
    if collection == JOBS {
        return Ok(context.farm.post::<Job>(&[collection], body, key).await?.view.id);
    }
    let recording = context.farm.post::<Recording>(&[collection], body, key).await?.view;
    recording.job_id.ok_or_else(|| Failure::Failed(format!("the recording {} has no job", recording.id)))
}

impl SubmitArgs {
    /// What is asked for, checked before a long upload rather than after it.
    fn order(&self) -> Result<Order, Failure> {
        self.order_with(match self.body.as_deref() {
            Some("-") => object("the body", "-", std::io::read_to_string(std::io::stdin()))?,
            Some(path) => object("the body", path, std::fs::read_to_string(path))?,
            None => json!({}),
        })
    }

    /// The same; what `body`, an object, says counts where the options say nothing.
    fn order_with(&self, mut body: Value) -> Result<Order, Failure> {
        let own = body.as_object_mut().and_then(|body| body.remove("kind"));
        let kind = match (&self.kind, own) {
            (Some(kind), _) => json!(kind),
            (None, Some(kind)) => kind,
            (None, None) => json!(JobKind::Transcode.as_str()),
        };
        let transcodes = kind == JobKind::Transcode.as_str();
        let makes_recording = transcodes && !matches!(self.input, Input::Recording(_));
        if self.title.is_some() && !makes_recording {
            return Err(Failure::Usage("--title goes with a transcode of a new input only".to_owned()));
        }
        let wishes = self.start.is_some() || self.end.is_some() || self.ladder.is_some() || self.quality;
        if wishes && !transcodes {
            let text = "--start, --end, --ladder and --quality go with a transcode only";
            return Err(Failure::Usage(text.to_owned()));
        }
        if self.start.zip(self.end).is_some_and(|(start, end)| end <= start) {
            return Err(Failure::Usage("--end must be later than --start".to_owned()));
        }
        let mut metadata = Map::new();
        for (key, value) in &self.metadata {
            if metadata.insert(key.clone(), Value::from(value.as_str())).is_some() {
                return Err(Failure::Usage(format!("--metadata gives {key:?} twice")));
            }
        }
        let edit = [("start", self.start), ("end", self.end)];
        let edit = edit.into_iter().filter_map(|(name, value)| Some((name.to_owned(), json!(value?))));
        body = with(body, "kind", (!makes_recording).then_some(kind));
        body = with(body, "profile", self.profile.as_deref().map(profile).transpose()?);
        body = with(body, "title", self.title.as_ref().map(|title| json!(title)));
        body = with(body, "priority", self.priority.map(|priority| json!(priority)));
        body = with(body, "callback_url", self.callback_url.as_ref().map(|url| json!(url)));
        body = with(body, "force", self.force.then_some(json!(true)));
        body = with(body, "ladder", self.ladder.as_ref().map(|choice| json!(choice)));
        body = with(body, "outputs", (!self.outputs.is_empty()).then(|| json!(self.outputs)));
        // An object of the body may say what is measured.
        let quality = self.quality && !body["quality"].is_object();
        body = with(body, "quality", quality.then_some(json!(true)));
        body = joined(body, "edit", edit.collect());
        body = joined(body, "metadata", metadata);
        Ok(Order { collection: if makes_recording { RECORDINGS } else { JOBS }, body })
    }
}

const JOBS: &str = "jobs";
const RECORDINGS: &str = "recordings";

/// The document with one more field, where there is a value for it.
fn with(mut document: Value, field: &str, value: Option<Value>) -> Value {
    if let Some(value) = value {
        document[field] = value;
    }
    document
}

/// The document with more members in one of its fields.
fn joined(mut document: Value, field: &str, members: Map<String, Value>) -> Value {
    match document.get_mut(field).and_then(Value::as_object_mut) {
        Some(there) => there.extend(members),
        None if members.is_empty() => {}
        None => document[field] = members.into(),
    }
    document
}

/// A profile's name, or a profile in a file.
fn profile(text: &str) -> Result<Value, Failure> {
    let Some(path) = text.strip_prefix('@') else {
        return Ok(Value::from(text));
    };
    // A string would be taken as a profile's name.
    object("the profile", path, std::fs::read_to_string(path))
}

/// The JSON object that a file holds.
fn object(what: &str, path: &str, text: std::io::Result<String>) -> Result<Value, Failure> {
    let wrong = |why: &dyn std::fmt::Display| Failure::Usage(format!("cannot read {what} {path}: {why}"));
    let text = text.map_err(|error| wrong(&error))?;
    let value: Value = serde_json::from_str(&text).map_err(|error| wrong(&error))?;
    if value.is_object() { Ok(value) } else { Err(wrong(&"it is not a JSON object")) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Only {
        #[command(flatten)]
        args: SubmitArgs,
    }

    fn args(words: &[&str]) -> Result<SubmitArgs, clap::Error> {
        Only::try_parse_from(["submit"].iter().chain(words)).map(|only| only.args)
    }

    fn order(words: &[&str]) -> (&'static str, Value) {
        let Order { collection, body } = args(words).unwrap().order().unwrap();
        (collection, body)
    }

    #[test]
    fn bodies_are_what_the_api_takes() {
        let words = [
            "--title",
            "T",
            "--priority",
            "7",
            "--output",
            "hls",
            "--metadata",
            "a=b=c",
            "--profile",
            "fast",
            "a.mp4",
        ];
        let body = json!({ "title": "T", "priority": 7, "outputs": ["hls"], "metadata": { "a": "b=c" }, "profile": "fast" });
        assert_eq!(order(&words), ("recordings", body));
        assert_eq!(order(&["--kind", "probe", "http://h/a"]), ("jobs", json!({ "kind": "probe" })));
        let again = ["recording:01a1f8b4-7093-702b-a7f4-ded97abf1264"];
        assert_eq!(order(&again), ("jobs", json!({ "kind": "transcode" })));
        let wishes = ["--start", "1.5", "--end", "9", "--ladder", "auto", "--quality", "a.mp4"];
        let body = json!({ "edit": { "start": 1.5, "end": 9.0 }, "ladder": "auto", "quality": true });
        assert_eq!(order(&wishes), ("recordings", body));
    }

    #[test]
    fn options_come_before_the_body() {
        let order = |body: Value, words: &[&str]| {
            let Order { collection, body } = args(words).unwrap().order_with(body).unwrap();
            (collection, body)
        };
        let body = json!({ "kind": "transcode", "profile": "web", "edit": { "start": 1, "pad": "16:9" },
                           "metadata": { "a": "1", "b": "2" }, "quality": { "metrics": ["ssim"] } });
        let words = ["--profile", "fast", "--start", "3", "--metadata", "b=3", "--quality", "a.mp4"];
        let merged = json!({ "profile": "fast", "edit": { "start": 3.0, "pad": "16:9" },
                             "metadata": { "a": "1", "b": "3" }, "quality": { "metrics": ["ssim"] } });
        assert_eq!(order(body, &words), ("recordings", merged));
        let poster = json!({ "kind": "thumbnail", "thumbnail": { "percent": 50 } });
        assert_eq!(order(poster.clone(), &["a.mp4"]), ("jobs", poster.clone()));
        let other = json!({ "kind": "probe", "thumbnail": { "percent": 50 } });
        assert_eq!(order(poster, &["--kind", "probe", "a.mp4"]), ("jobs", other));
    }

    #[test]
    fn wrong_words_are_usage_errors() {
        for bad in [
            &["--kind", "vod", "a.mp4"][..],
            &["--priority", "101", "a.mp4"],
            &["--priority", "-1", "a.mp4"],
            &["--metadata", "novalue", "a.mp4"],
            &["--metadata", "=v", "a.mp4"],
            &["--start", "-1", "a.mp4"],
            &["--end", "inf", "a.mp4"],
            &["--ladder", "best", "a.mp4"],
            &["recording:no-id"],
            &["rtmp://h/x"],
            &[],
        ] {
            assert!(args(bad).is_err(), "{bad:?}");
        }
        for bad in [
            &["--title", "T", "--kind", "probe", "a.mp4"][..],
            &["--metadata", "a=1", "--metadata", "a=2", "a.mp4"],
            &["--profile", "@/nonexistent.json", "a.mp4"],
            &["--body", "/nonexistent.json", "a.mp4"],
            &["--start", "5", "--end", "5", "a.mp4"],
            &["--kind", "probe", "--quality", "a.mp4"],
        ] {
            assert_eq!(args(bad).unwrap().order().unwrap_err().exit_code(), 2, "{bad:?}");
        }
    }
}
