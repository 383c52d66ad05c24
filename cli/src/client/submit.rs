//! `job submit`.

use std::path::Path;

use clap::builder::{OsStringValueParser, PossibleValuesParser, TypedValueParser};
use reelmill_shared::ids::JobId;
use reelmill_shared::job::spec::{JobKind, Output};
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
    /// What to do
    #[arg(long, default_value = "transcode", value_parser = PossibleValuesParser::new(JobKind::ALL.iter().map(|kind| kind.as_str())))]
    kind: String,
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

/// Runs `job submit`.
pub(crate) async fn run(context: &Context, args: SubmitArgs) -> Result<(), Failure> {
    let body = args.body()?;
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
        return dry_run::run(context, args.collection(), &body, &key).await;
    }
    let id = send(context, &args, body, &key).await?;
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

async fn send(context: &Context, args: &SubmitArgs, body: Value, key: &str) -> Result<JobId, Failure> {
    if !args.makes_recording() {
        return Ok(context.farm.post::<Job>(&["jobs"], &body, key).await?.view.id);
    }
    let recording = context.farm.post::<Recording>(&["recordings"], &body, key).await?.view;
    recording.job_id.ok_or_else(|| Failure::Failed(format!("the recording {} has no job", recording.id)))
}

impl SubmitArgs {
    /// A transcode of something new is a recording with a title of its own; everything else is only a job.
    fn makes_recording(&self) -> bool {
        self.kind == JobKind::Transcode.as_str() && !matches!(self.input, Input::Recording(_))
    }

    /// Where the body goes.
    fn collection(&self) -> &'static str {
        if self.makes_recording() { "recordings" } else { "jobs" }
    }

    /// The body but for its input. Checked before a long upload rather than after it.
    fn body(&self) -> Result<Value, Failure> {
        if self.title.is_some() && !self.makes_recording() {
            return Err(Failure::Usage("--title goes with a transcode of a new input only".to_owned()));
        }
        let mut metadata = Map::new();
        for (key, value) in &self.metadata {
            if metadata.insert(key.clone(), Value::from(value.as_str())).is_some() {
                return Err(Failure::Usage(format!("--metadata gives {key:?} twice")));
            }
        }
        let mut body = json!({});
        if !self.makes_recording() {
            body = with(body, "kind", Some(json!(self.kind)));
        }
        body = with(body, "profile", self.profile.as_deref().map(profile).transpose()?);
        body = with(body, "title", self.title.as_ref().map(|title| json!(title)));
        body = with(body, "priority", self.priority.map(|priority| json!(priority)));
        body = with(body, "callback_url", self.callback_url.as_ref().map(|url| json!(url)));
        body = with(body, "force", self.force.then_some(json!(true)));
        body = with(body, "outputs", (!self.outputs.is_empty()).then(|| json!(self.outputs)));
        Ok(with(body, "metadata", (!metadata.is_empty()).then(|| metadata.into())))
    }
}

/// The document with one more field, where there is a value for it.
fn with(mut document: Value, field: &str, value: Option<Value>) -> Value {
    if let Some(value) = value {
        document[field] = value;
    }
    document
}

/// A profile's name, or a profile in a file.
fn profile(text: &str) -> Result<Value, Failure> {
    let Some(path) = text.strip_prefix('@') else {
        return Ok(Value::from(text));
    };
    let wrong =
        |why: &dyn std::fmt::Display| Failure::Usage(format!("cannot read the profile {path}: {why}"));
    let text = std::fs::read_to_string(Path::new(path)).map_err(|error| wrong(&error))?;
    let value: Value = serde_json::from_str(&text).map_err(|error| wrong(&error))?;
    // A string would be taken as a profile's name.
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
        let given = args(&words).unwrap();
        assert!(given.makes_recording());
        let body = json!({ "title": "T", "priority": 7, "outputs": ["hls"], "metadata": { "a": "b=c" }, "profile": "fast" });
        assert_eq!(given.body().unwrap(), body);
        let probe = args(&["--kind", "probe", "http://h/a"]).unwrap();
        assert!(!probe.makes_recording());
        assert_eq!(probe.body().unwrap(), json!({ "kind": "probe" }));
        let again = args(&["recording:01a1f8b4-7093-702b-a7f4-ded97abf1264"]).unwrap();
        assert_eq!(again.body().unwrap(), json!({ "kind": "transcode" }));
    }

    #[test]
    fn wrong_words_are_usage_errors() {
        for bad in [
            &["--kind", "vod", "a.mp4"][..],
            &["--priority", "101", "a.mp4"],
            &["--priority", "-1", "a.mp4"],
            &["--metadata", "novalue", "a.mp4"],
            &["--metadata", "=v", "a.mp4"],
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
        ] {
            assert_eq!(args(bad).unwrap().body().unwrap_err().exit_code(), 2, "{bad:?}");
        }
    }
}
