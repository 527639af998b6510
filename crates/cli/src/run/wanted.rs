//! Which events are wanted, which of their fields, and in which order: checked against the events' types before anything is loaded.

use std::num::NonZeroU32;

use ringfence_plan::near::nearest;
use ringfence_value::{Condition, Filter, Layout, Miss, Path};

use super::collect::{Collection, Count, Order, Sort};
use super::view::View;
use crate::events::Choices;
use crate::exit::Failure;

/// Names that an error lists.
const MOST_NAMES: usize = 30;

/// Filters and shape.
#[derive(clap::Args, Clone)]
#[command(next_help_heading = "Which events, and how")]
pub struct Shape {
    /// Only events for which this holds: pid == 1234 && comm ~ "ssh*".
    #[arg(long = "where", value_name = "CONDITION")]
    condition: Option<String>,
    /// Only these fields, in this order; members as `a.b`, elements as `a[0]`.
    #[arg(long, value_name = "FIELD,..", value_delimiter = ',')]
    fields: Vec<String>,
    /// Collect events and print them at the end in this order (with --count-by: `count` or one of its fields).
    #[arg(long, value_name = "FIELD[:desc]")]
    sort: Option<String>,
    /// Count events by these fields instead of printing them, the most frequent first.
    #[arg(long, value_name = "FIELD,..", value_delimiter = ',', conflicts_with = "fields")]
    count_by: Vec<String>,
    /// Only the first N of --sort or --count-by.
    #[arg(long, value_name = "N")]
    top: Option<NonZeroU32>,
    /// Print at most N events a second and say how many were left out.
    #[arg(long, value_name = "N", conflicts_with_all = ["sort", "count_by"])]
    rate: Option<NonZeroU32>,
}

/// What is wanted of the events of all types.
pub struct Wanted {
    /// One for each of the choices; `None`: its type has no values.
    pub views: Vec<Option<View>>,
    /// Events of no known type are printed.
    pub unknown: bool,
    /// Events are collected until the end.
    pub collection: Option<Collection>,
    /// Events a second.
    pub rate: Option<u32>,
}

impl Shape {
    /// With these fields, where the user names none.
    pub fn or_fields(mut self, fields: Vec<String>) -> Shape {
        if self.fields.is_empty() && self.count_by.is_empty() {
            self.fields = fields;
        }
        self
    }

    /// Whether something that the user wrote names this field.
    pub fn names(&self, field: &str) -> bool {
        let Shape { condition, fields, sort, count_by, top: _, rate: _ } = self;
        let all = condition.iter().chain(fields).chain(sort).chain(count_by);
        all.into_iter().any(|text| text.contains(field))
    }

    /// Whether events are counted or sorted, and shown at the end.
    pub fn collects(&self) -> bool {
        self.sort.is_some() || !self.count_by.is_empty()
    }

    fn is_plain(&self) -> bool {
        let Shape { condition, fields, sort, count_by, top, rate: _ } = self;
        condition.is_none() && fields.is_empty() && sort.is_none() && count_by.is_empty() && top.is_none()
    }

    /// Checks it against the types of the events.
    pub fn bind(&self, choices: &Choices, sends: bool, raw: bool) -> Result<Wanted, Failure> {
        let layouts: Vec<Option<Layout>> = choices.typed.iter().map(|choice| choice.layout(raw)).collect();
        let known: Vec<&Layout> = layouts.iter().flatten().collect();
        if known.is_empty() && !self.is_plain() {
            return Err(Failure::usage(if sends {
                "the types of the object's events are not known, so their fields have no names; --event MAP=STRUCT names one"
            } else {
                "the object sends no events: --where, --fields, --sort, --count-by and --top are about events"
            }));
        }
        if self.top.is_some() && self.sort.is_none() && self.count_by.is_empty() {
            return Err(Failure::usage("--top is about an order: add --sort FIELD or --count-by FIELD"));
        }
        let mut conditions = match &self.condition {
            Some(text) => self.conditions(text, &known)?.into_iter().map(Some).collect(),
            None => vec![None; known.len()],
        };
        let (option, names) =
            if self.count_by.is_empty() { ("--fields", &self.fields) } else { ("--count-by", &self.count_by) };
        let mut shown = selected(option, names, &known, !self.count_by.is_empty())?;
        let order = self.order(&known)?;
        let mut fields = match &order {
            Some((path, _)) => {
                let found: Vec<_> = known.iter().map(|layout| layout.field(path)).collect();
                all_missed("--sort", &found, &known)?;
                found.into_iter().map(Result::ok).collect()
            }
            None => vec![None; known.len()],
        };
        let order = order.map(|(_, order)| order);
        let top = self.top.map(|top| top.get() as usize);
        let collection = if self.count_by.is_empty() {
            order.map(|order| Collection::Sort(Sort::new(order, top)))
        } else {
            let order = match &self.sort {
                Some(_) => order.map_or_else(|| self.direction(), Ok).map(Some)?,
                None => None,
            };
            Some(Collection::Count(Count::new(order, top)))
        };
        let is_sort = matches!(collection, Some(Collection::Sort(_)));
        let mut each = conditions.drain(..).zip(shown.drain(..)).zip(fields.drain(..));
        let views = layouts
            .iter()
            .map(|layout| {
                layout.as_ref()?;
                let ((condition, layout), order) = each.next()?;
                // An event without the field has no place in the order.
                let layout = layout.filter(|_| !is_sort || order.is_some());
                Some(View { condition, layout, order })
            })
            .collect();
        let rate = self.rate.map(NonZeroU32::get);
        Ok(Wanted { views, unknown: self.is_plain(), collection, rate })
    }

    fn conditions(&self, text: &str, known: &[&Layout]) -> Result<Vec<Condition>, Failure> {
        let bound = Filter::parse(text).and_then(|filter| filter.bind(known.iter().copied()));
        bound.map_err(|error| {
            let near = error.unknown().map(|name| format!("\n{}", names(name, known))).unwrap_or_default();
            Failure::usage(format_args!("--where: {error}{near}"))
        })
    }

    /// The field that events are sorted by; `None`: none, or the count.
    fn order(&self, known: &[&Layout]) -> Result<Option<(Path, Order)>, Failure> {
        let Some(text) = &self.sort else { return Ok(None) };
        let name = text.rsplit_once(':').map_or(text.as_str(), |(name, _)| name);
        let order = self.direction()?;
        if !self.count_by.is_empty() {
            // A field of that name is meant only when events are counted by it.
            if name == "count" && !self.count_by.iter().any(|by| by.trim() == "count") {
                return Ok(None);
            }
            if !self.count_by.iter().any(|by| by.trim() == name) {
                let by = self.count_by.join(", ");
                return Err(Failure::usage(format_args!(
                    "--sort {name}: with --count-by events are sorted by `count` or by what they are counted by: {by}"
                )));
            }
        }
        Ok(Some((path("--sort", name, known)?, Order { by_count: false, ..order })))
    }

    fn direction(&self) -> Result<Order, Failure> {
        let text = self.sort.as_deref().unwrap_or_default();
        let descending = match text.rsplit_once(':') {
            None | Some((_, "asc")) => false,
            Some((_, "desc")) => true,
            Some((_, other)) => {
                return Err(Failure::usage(format_args!("--sort {text}: the order is `desc` or `asc`, not `{other}`")));
            }
        };
        Ok(Order { descending, by_count: true })
    }
}

fn path(option: &str, name: &str, known: &[&Layout]) -> Result<Path, Failure> {
    Path::parse(name.trim()).ok_or_else(|| {
        Failure::usage(format_args!("{option}: `{name}` is no field, such as pid, a.b or a[0]\n{}", names(name, known)))
    })
}

/// What is left of each type; `None`: nothing. `all`: a type must have all of the fields, not some.
fn selected(option: &str, list: &[String], known: &[&Layout], all: bool) -> Result<Vec<Option<Layout>>, Failure> {
    if list.is_empty() {
        return Ok(known.iter().map(|layout| Some((*layout).clone())).collect());
    }
    let paths: Vec<Path> = list.iter().map(|name| path(option, name, known)).collect::<Result<_, _>>()?;
    for path in &paths {
        let found: Vec<_> = known.iter().map(|layout| layout.select([path])).collect();
        all_missed(option, &found, known)?;
    }
    Ok(known
        .iter()
        .map(|layout| {
            let has: Vec<&Path> = paths.iter().filter(|path| layout.select([*path]).is_ok()).collect();
            let enough = if all { has.len() == paths.len() } else { !has.is_empty() };
            layout.select(has).ok().filter(|_| enough)
        })
        .collect())
}

/// That no type has it is an error; the most telling of the reasons is shown.
fn all_missed<T>(option: &str, found: &[Result<T, Miss>], known: &[&Layout]) -> Result<(), Failure> {
    if found.is_empty() || found.iter().any(Result::is_ok) {
        return Ok(());
    }
    let misses = || found.iter().filter_map(|found| found.as_ref().err());
    let Some(miss) = misses().find(|miss| !matches!(miss, Miss::Unknown(_))).or_else(|| misses().next()) else {
        return Ok(());
    };
    let near = match miss {
        Miss::Unknown(name) => format!("\n{}", names(name, known)),
        _ => String::new(),
    };
    Err(Failure::usage(format_args!("{option}: {miss}{near}")))
}

/// Near names, else all.
fn names(name: &str, known: &[&Layout]) -> String {
    let mut all: Vec<String> = Vec::new();
    for field in known.iter().flat_map(|layout| layout.fields()) {
        if !all.contains(&field) {
            all.push(field);
        }
    }
    let near = nearest(name, all.iter().map(String::as_str));
    if !near.is_empty() {
        return format!("near names: {}", near.join(", "));
    }
    let more = if all.len() > MOST_NAMES { ", …" } else { "" };
    all.truncate(MOST_NAMES);
    format!("the events' fields: {}{more}", all.join(", "))
}
