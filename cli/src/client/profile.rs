//! `profile`.

use super::Context;
use super::documents::{Profile, Rung};
use super::failure::Failure;
use super::lists::{self, Paging};
use super::output::{Column, Format, fields, print, table};
use super::text::bitrate;

/// Commands about profiles.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ProfileCommand {
    /// List profiles: the built-in ones, then the project's own
    List,
    /// Show a profile
    Show {
        /// The profile's name
        #[arg(value_parser = name)]
        name: String,
    },
}

/// Whether a name exists is for the farm to say; these would be another path.
fn name(text: &str) -> Result<String, &'static str> {
    if text.trim_matches('.').is_empty() { Err("is no name") } else { Ok(text.to_owned()) }
}

/// Runs a command about profiles.
pub(crate) async fn run(context: &Context, command: ProfileCommand) -> Result<(), Failure> {
    match command {
        ProfileCommand::List => list(context).await,
        ProfileCommand::Show { name } => show(context, &name).await,
    }
}

async fn list(context: &Context) -> Result<(), Failure> {
    let list = lists::read::<Profile>(&context.farm, "profiles", &[], &Paging::whole()).await?;
    let columns = [
        Column::Text("PROFILE"),
        Column::Text("BUILT IN"),
        Column::Text("PRESET"),
        Column::Figure("SEGMENT"),
        Column::Figure("AUDIO"),
        Column::Text("RUNGS"),
    ];
    list.show(context.format, &columns, |profile| {
        let rungs: Vec<&str> = profile.rungs.iter().map(|rung| rung.name.as_str()).collect();
        vec![
            profile.name.clone().unwrap_or_default(),
            yes_or_no(profile.built_in),
            profile.preset.clone(),
            format!("{} s", profile.segment_duration),
            profile.audio.as_ref().map(|audio| bitrate(audio.bitrate)).unwrap_or_default(),
            rungs.join(" "),
        ]
    })
}

fn yes_or_no(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
}

async fn show(context: &Context, name: &str) -> Result<(), Failure> {
    let document = context.farm.get::<Profile>(&["profiles", name]).await?;
    if context.format == Format::Json {
        return print(&document.text);
    }
    let profile = document.view;
    let mut text = fields(&[
        ("profile", profile.name.clone().unwrap_or_default()),
        ("built in", yes_or_no(profile.built_in)),
        ("preset", profile.preset.clone()),
        ("hardware", profile.hardware.clone()),
        ("segment", format!("{} s", profile.segment_duration)),
        (
            "audio",
            profile
                .audio
                .as_ref()
                .map_or("none".to_owned(), |audio| format!("AAC {}", bitrate(audio.bitrate))),
        ),
    ]);
    if !profile.rungs.is_empty() {
        text.push_str("\n\n");
        text.push_str(&rungs(&profile.rungs));
    }
    print(&text)
}

fn rungs(rungs: &[Rung]) -> String {
    let columns = [
        Column::Text("RUNG"),
        Column::Figure("SIZE"),
        Column::Text("CODEC"),
        Column::Figure("MAX FPS"),
        Column::Figure("CRF"),
        Column::Figure("BITRATE"),
    ];
    table(
        &columns,
        rungs.iter().map(|rung| {
            let rate = match (rung.bitrate, rung.max_bitrate) {
                (Some(constant), _) => bitrate(constant),
                (None, Some(most)) => format!("up to {}", bitrate(most)),
                (None, None) => String::new(),
            };
            vec![
                rung.name.clone(),
                format!("{}x{}", rung.width, rung.height),
                rung.codec.clone(),
                rung.max_frame_rate.map(|rate| rate.to_string()).unwrap_or_default(),
                rung.crf.map(|crf| crf.to_string()).unwrap_or_default(),
                rate,
            ]
        }),
    )
}
