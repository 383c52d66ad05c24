//! Lists that come in pages.

use reqwest::Method;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::failure::Failure;
use super::http::Farm;
use super::output::{Column, Format, note, print, table};

/// How much of a list is wanted.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Paging {
    /// At most this many; with --all, this many at a time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=200))]
    limit: Option<u16>,
    /// Go on where a page ended (its next_cursor)
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
    /// Follow the list to its end
    #[arg(long)]
    all: bool,
}

impl Paging {
    /// For lists that are short by nature.
    pub(crate) fn whole() -> Self {
        Self { all: true, ..Self::default() }
    }
}

/// A list, as far as it was read.
#[derive(Debug)]
pub(crate) struct List<T> {
    /// The only page as it came, or all pages made one.
    text: String,
    pub(crate) rows: Vec<T>,
    more: bool,
}

/// Reads a list. `name` is both the resource and the member of the answer that holds the rows.
pub(crate) async fn read<T: DeserializeOwned>(
    farm: &Farm,
    name: &str,
    filters: &[(&str, Option<String>)],
    paging: &Paging,
) -> Result<List<T>, Failure> {
    read_at(farm, &[name], name, filters, paging).await
}

/// Reads a list of what belongs to something else, at a path of its own.
pub(crate) async fn read_at<T: DeserializeOwned>(
    farm: &Farm,
    path: &[&str],
    name: &str,
    filters: &[(&str, Option<String>)],
    paging: &Paging,
) -> Result<List<T>, Failure> {
    let mut cursor = paging.cursor.clone();
    let mut values: Vec<Value> = vec![];
    let mut first = None;
    loop {
        let mut query: Vec<(&str, String)> =
            filters.iter().filter_map(|(name, value)| Some((*name, value.clone()?))).collect();
        query.extend(paging.limit.map(|limit| ("limit", limit.to_string())));
        query.extend(cursor.clone().map(|cursor| ("cursor", cursor)));
        let response = farm.ask(farm.request(Method::GET, farm.url(path)).query(&query)).await?;
        let mut page = farm.document::<Value>(response).await?;
        let Some(Value::Array(rows)) = page.view.get_mut(name).map(Value::take) else {
            return Err(Failure::Failed(format!("the farm's answer has no {name}; is the address right?")));
        };
        let ended = rows.is_empty();
        values.extend(rows);
        let next = page.view["next_cursor"].as_str().map(str::to_owned);
        // A cursor that leads back to itself would never end.
        let more = next.is_some() && next != cursor && !ended;
        let only = first.is_none().then_some(page.text);
        if !paging.all || !more {
            let text = match only {
                Some(text) => text,
                None => json!({ name: &values, "next_cursor": null }).to_string(),
            };
            return Ok(List { text, rows: typed(values)?, more });
        }
        first = first.or(only);
        cursor = next;
    }
}

fn typed<T: DeserializeOwned>(values: Vec<Value>) -> Result<Vec<T>, Failure> {
    serde_json::from_value(Value::Array(values))
        .map_err(|error| Failure::Failed(format!("the farm's answer does not read: {error}")))
}

impl<T> List<T> {
    /// Prints the list, a row each.
    pub(crate) fn show(
        &self,
        format: Format,
        columns: &[Column],
        row: impl Fn(&T) -> Vec<String>,
    ) -> Result<(), Failure> {
        if format == Format::Json {
            return print(&self.text);
        }
        if self.rows.is_empty() {
            note("nothing to list");
            return Ok(());
        }
        print(&table(columns, self.rows.iter().map(row)))?;
        if self.more {
            note("there may be more: --all");
        }
        Ok(())
    }
}
