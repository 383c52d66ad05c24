//! `project`.

use std::collections::BTreeMap;
use std::str::FromStr;

use chrono::Utc;
use reelmill_shared::job::retention::{Age, Kept};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::Context;
use super::documents::{DueList, Project};
use super::failure::Failure;
use super::http::Document;
use super::lists::{self, Paging};
use super::output::{Column, Format, fields, note, print, table};
use super::text::{ago, plain, short_number, size};

/// Commands about projects; they need a key with the scope `admin`.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ProjectCommand {
    /// List projects, newest first
    List(Paging),
    /// Make a project
    Create(ChangeArgs),
    /// Change a project's share of the farm, its limit or its ages
    Set(ChangeArgs),
    /// Show what has reached its age and goes soon; with --keep, what would go by these ages
    Due(DueArgs),
    /// Delete a project that has nothing any more
    Delete {
        /// Its name, or its id
        #[arg(value_name = "PROJECT")]
        project: String,
    },
}

/// How long something is kept: `sources=30`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keep {
    kept: Kept,
    /// `None` for what the farm says.
    age: Option<Age>,
}

fn word(kept: Kept) -> &'static str {
    kept.as_str().trim_end_matches("_days")
}

impl FromStr for Keep {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (what, age) = text.split_once('=').ok_or("has the form WHAT=DAYS")?;
        let kept = Kept::ALL
            .into_iter()
            .find(|kept| word(*kept) == what)
            .ok_or_else(|| format!("{what:?} is none of {}", Kept::ALL.map(word).join(", ")))?;
        let age = match age {
            "default" => None,
            age => Some(age.parse::<Age>().map_err(|error| format!("{error}, or \"default\""))?),
        };
        Ok(Self { kept, age })
    }
}

/// Options of `project create` and `project set`.
#[derive(Debug, clap::Args)]
pub(crate) struct ChangeArgs {
    /// Its name; an id will do for one that is there
    #[arg(value_name = "PROJECT")]
    project: String,
    /// Share of the farm relative to other projects with work, 0.01 to 1000
    #[arg(long)]
    weight: Option<f64>,
    /// Tasks that may run at once, or `none` for no limit
    #[arg(long, value_name = "N")]
    max_running: Option<String>,
    /// Livestreams that may be on air at once
    #[arg(long, value_name = "N")]
    max_concurrent_streams: Option<u32>,
    #[command(flatten)]
    ages: Ages,
}

/// Ages.
#[derive(Debug, clap::Args)]
pub(crate) struct Ages {
    /// How long to keep sources, outputs, jobs, logs, events or deliveries: days, `forever`, or `default` for what the farm says. May be given several times
    #[arg(long, value_name = "WHAT=DAYS")]
    keep: Vec<Keep>,
}

/// Options of `project due`.
#[derive(Debug, clap::Args)]
pub(crate) struct DueArgs {
    /// Its name, or its id
    #[arg(value_name = "PROJECT")]
    project: String,
    #[command(flatten)]
    ages: Ages,
    /// List at most this many of each kind
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=200))]
    limit: u16,
}

/// Runs a command about projects.
pub(crate) async fn run(context: &Context, command: ProjectCommand) -> Result<(), Failure> {
    match command {
        ProjectCommand::List(paging) => list(context, &paging).await,
        ProjectCommand::Create(args) => {
            let mut body = body(&args)?;
            body.insert("name".to_owned(), args.project.clone().into());
            let url = context.farm.url(&["projects"]);
            show(context, &change(context, Method::POST, url, &body).await?)
        }
        ProjectCommand::Set(args) => {
            let body = body(&args)?;
            if body.is_empty() {
                return Err(Failure::Usage(
                    "say what to change: --weight, --max-running, --max-concurrent-streams, --keep"
                        .to_owned(),
                ));
            }
            let id = find(context, &args.project).await?.id.to_string();
            let url = context.farm.url(&["projects", &id]);
            show(context, &change(context, Method::PATCH, url, &body).await?)
        }
        ProjectCommand::Due(args) => due(context, &args).await,
        ProjectCommand::Delete { project } => {
            let farm = &context.farm;
            let id = find(context, &project).await?.id.to_string();
            farm.ask(farm.request(Method::DELETE, farm.url(&["projects", &id]))).await?;
            note(&format!("deleted the project {project}"));
            Ok(())
        }
    }
}

async fn find(context: &Context, wanted: &str) -> Result<Project, Failure> {
    let list = lists::read::<Project>(&context.farm, "projects", &[], &Paging::whole()).await?;
    let is_it = |project: &Project| project.name == wanted || project.id.to_string() == wanted;
    let found = list.rows.into_iter().find(is_it);
    found.ok_or_else(|| Failure::NotFound(format!("there is no project {wanted:?}")))
}

fn body(args: &ChangeArgs) -> Result<Map<String, Value>, Failure> {
    let mut body = Map::new();
    if let Some(weight) = args.weight {
        body.insert("weight".to_owned(), weight.into());
    }
    if let Some(most) = &args.max_running {
        let most = match most.as_str() {
            "none" => Value::Null,
            number => {
                let number: u32 = number.parse().map_err(|_| {
                    Failure::Usage(format!("--max-running {number:?} is neither a number nor none"))
                })?;
                number.into()
            }
        };
        body.insert("max_running".to_owned(), most);
    }
    if let Some(most) = args.max_concurrent_streams {
        body.insert("max_concurrent_streams".to_owned(), most.into());
    }
    if !args.ages.keep.is_empty() {
        let ages: BTreeMap<&str, Option<Age>> =
            args.ages.keep.iter().map(|keep| (keep.kept.as_str(), keep.age)).collect();
        body.insert("retention".to_owned(), json!(ages));
    }
    Ok(body)
}

async fn change(
    context: &Context,
    method: Method,
    url: url::Url,
    body: &Map<String, Value>,
) -> Result<Document<Project>, Failure> {
    let farm = &context.farm;
    farm.document(farm.ask(farm.request(method, url).json(body)).await?).await
}

fn ages(project: &Project) -> String {
    let own = Kept::ALL.into_iter().filter_map(|kept| {
        let age = project.retention.get(kept.as_str())?.as_ref()?;
        Some(format!("{}={age}", word(kept)))
    });
    own.collect::<Vec<_>>().join(" ")
}

fn limit(project: &Project) -> String {
    project.max_running.map_or("none".to_owned(), |most| most.to_string())
}

fn show(context: &Context, document: &Document<Project>) -> Result<(), Failure> {
    let project = &document.view;
    match context.format {
        Format::Json => print(&document.text),
        Format::Table => print(&fields(&[
            ("project", project.name.clone()),
            ("id", project.id.to_string()),
            ("weight", short_number(project.weight)),
            ("limit", limit(project)),
            ("running", project.running.to_string()),
            (
                "streams",
                project.max_concurrent_streams.map(|most| format!("{most} at most")).unwrap_or_default(),
            ),
            ("keeps", ages(project)),
        ])),
    }
}

async fn list(context: &Context, paging: &Paging) -> Result<(), Failure> {
    let list = lists::read::<Project>(&context.farm, "projects", &[], paging).await?;
    let columns = [
        Column::Text("PROJECT"),
        Column::Figure("WEIGHT"),
        Column::Figure("LIMIT"),
        Column::Figure("RUNNING"),
        Column::Text("KEEPS"),
        Column::Text("ID"),
    ];
    list.show(context.format, &columns, |project| {
        vec![
            project.name.clone(),
            short_number(project.weight),
            limit(project),
            project.running.to_string(),
            ages(project),
            project.id.to_string(),
        ]
    })
}

async fn due(context: &Context, args: &DueArgs) -> Result<(), Failure> {
    let farm = &context.farm;
    let id = find(context, &args.project).await?.id.to_string();
    let mut query = vec![("limit", args.limit.to_string())];
    for Keep { kept, age } in &args.ages.keep {
        let Some(age) = age else {
            return Err(Failure::Usage(format!("--keep {}=default is what counts anyway", word(*kept))));
        };
        query.push((kept.as_str(), age.to_string()));
    }
    let url = farm.url(&["projects", &id, "retention"]);
    let response = farm.ask(farm.request(Method::GET, url).query(&query)).await?;
    let document = farm.document::<BTreeMap<String, DueList>>(response).await?;
    if context.format == Format::Json {
        return print(&document.text);
    }
    let kinds = || Kept::ALL.into_iter().filter_map(|kept| Some((kept, document.view.get(kept.as_str())?)));
    let bytes = |bytes: Option<u64>| bytes.map(size).unwrap_or_default();
    // The farm counts no further.
    let count = |count: u64| if count > 10_000 { "> 10000".to_owned() } else { count.to_string() };
    let columns =
        [Column::Text("KIND"), Column::Figure("AGE"), Column::Figure("DUE"), Column::Figure("SIZE")];
    print(&table(
        &columns,
        kinds().map(|(kept, list)| {
            vec![word(kept).to_owned(), list.age_days.to_string(), count(list.count), bytes(list.bytes)]
        }),
    ))?;
    let now = Utc::now();
    for (kept, list) in kinds().filter(|(_, list)| !list.items.is_empty()) {
        print("")?;
        let columns = [
            Column::Text(word(kept)),
            Column::Text("WHAT"),
            Column::Figure("DUE SINCE"),
            Column::Figure("SIZE"),
        ];
        print(&table(
            &columns,
            list.items.iter().map(|item| {
                vec![item.id.to_string(), plain(&item.name), ago(item.due_at, now), bytes(item.bytes)]
            }),
        ))?;
        let rest = list.count.saturating_sub(list.items.len() as u64);
        if rest > 0 {
            note(&format!("and {rest} more"));
        }
    }
    Ok(())
}
