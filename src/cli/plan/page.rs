//! The page that a person reads.

use std::time::Duration;

use super::estimate::{Cost, Subject, due_rows};
use super::time::Deadline;
use super::ways::Split;
use super::{Details, Plan, PromptPlan, words};
use crate::cli::Context;
use crate::cli::failure::Failure;
use crate::cli::prices::PriceBook;
use crate::cli::server;
use crate::cli::tasks;
use crate::cli::text::{count, duration, moment, one_line, size, them, thousands};
use crate::domain::Route;
use crate::machine::plan::{Left, Liveness};
use crate::machine::request::InDoubtPolicy;
use crate::store::Store;

/// Returns the whole page, with so many rendered requests of each prompt.
pub(super) fn page(
    plan: &Plan,
    (store, examples, in_doubt): (&Store, usize, InDoubtPolicy),
    context: &Context,
) -> Result<String, Failure> {
    let mut text = format!("{}: {}\n", context.project.display(), count(plan.rows, "row"));
    if plan.open.batches > 0 {
        text.push_str(&format!(
            "{} open, with {} not counted as due\n",
            count(plan.open.batches, "batch"),
            count(plan.open.requests, "request")
        ));
    }
    if plan.prompts.is_empty() {
        text.push_str("there is no prompt yet\n");
    }
    let nothing = Details::default();
    let details = plan.details.iter().chain(std::iter::repeat(&nothing));
    for (one, details) in plan.prompts.iter().zip(details) {
        text.push_str(&prompt((one, details), plan, context)?);
        if one.left.due() > 0 {
            text.push_str(&rendered(store, (one, plan), (examples, in_doubt))?);
        }
    }
    if let Some(by) = plan.by.as_ref().filter(|_| plan.left().due() > 0) {
        text.push_str(&format!("\n{}\n", deadline(by)));
    }
    Ok(text)
}

fn prompt(
    (plan, details): (&PromptPlan, &Details),
    whole: &Plan,
    context: &Context,
) -> Result<String, Failure> {
    let (prompt, left) = (&plan.prompt, plan.left);
    let place = match &plan.place {
        server::Place::Embedded => "the simulator in this program; answers are made up",
        server::Place::Own(url) | server::Place::Custom(url) => url,
    };
    let mut lines = vec![
        format!("\nprompt {} version {}", prompt.name, prompt.version),
        field("model", &format!("{}, {}", prompt.spec.model, prompt.spec.endpoint.as_str())),
        field("server", place),
        field("due", &due(plan, whole.ways.word())),
    ];
    if left.due() > 0 {
        let why = words::why(plan, whole.ways.limit);
        lines.push(field("route", &format!("{}, because {why}", plan.choice.route.as_str())));
        lines.extend(section("batches", &batches(plan, whole)?));
        lines.extend(section("tokens", &tokens(plan)));
        lines.extend(section("counted", &counted(plan, context)));
        lines.extend(section("longest", &longest(plan, details)));
        lines.extend(section("cost", &cost(plan)));
        lines.extend(section("time", &time(plan, context)));
        lines.extend(section("learned", &learned(plan)));
    }
    if left.answered > 0 {
        lines.push(field("answered", &count(left.answered, "request")));
    }
    lines.extend(section("not due", &not_due(left, whole.liveness, context)));
    for warning in &details.warnings {
        lines.push(field("warning", &warning.words));
    }
    Ok(lines.join("\n") + "\n")
}

fn field(name: &str, value: &str) -> String {
    format!("  {name:<9} {value}")
}

fn section(name: &str, values: &[String]) -> Vec<String> {
    let named = |(index, value): (usize, &String)| field(if index == 0 { name } else { "" }, value);
    values.iter().enumerate().map(named).collect()
}

fn due(plan: &PromptPlan, word: &str) -> String {
    let left = plan.left;
    let parts: Vec<String> = [
        (left.new, "pending"),
        (left.failed, "failed before"),
        (left.truncated, "cut by the token limit"),
        (left.in_doubt, "in doubt"),
    ]
    .iter()
    .filter(|(number, _)| *number > 0)
    .map(|(number, what)| format!("{} {what}", thousands(*number)))
    .collect();
    if parts.is_empty() {
        return "nothing".to_owned();
    }
    let limited = match plan.ways.taken_up {
        all if all == left.due() => String::new(),
        0 => format!("; {word} takes up none of them"),
        some => format!("; {word} takes up {} of them", thousands(some)),
    };
    format!("{}: {}{limited}", count(left.due(), "request"), parts.join(", "))
}

/// Says how many batches there would be, within what time, and what does not go into them.
fn batches(plan: &PromptPlan, whole: &Plan) -> Result<Vec<String>, Failure> {
    let ways = plan.ways;
    if plan.choice.route == Route::Realtime || ways.taken_up == 0 {
        return Ok(Vec::new());
    }
    let mut lines = Vec::new();
    if ways.batches > 0 {
        let shared = match ways.batches - ways.new_batches {
            0 => "",
            _ => ", shared with another prompt",
        };
        let profile = server::provider(&plan.prompt.spec.model)?.batches;
        let window = profile.map_or_else(String::new, |profile| {
            format!(", done within {}, often sooner", spelled(profile.window))
        });
        lines.push(format!("about {}{shared}{window}", thousands(ways.batches)));
        let largest = ways.largest;
        let each = if ways.batches == 1 { "it has" } else { "the largest has" };
        lines.push(format!(
            "{each} {}, about {} and {}",
            count(largest.requests, "request"),
            size(largest.bytes),
            count(largest.tokens, "input token")
        ));
    }
    if ways.is_canary_sent {
        lines.push(
            "1 request goes ahead by a call, to see whether the provider takes it".to_owned(),
        );
    }
    if ways.no_room > 0 {
        lines.push(no_room(ways, whole));
    }
    Ok(lines)
}

fn no_room(ways: Split, whole: &Plan) -> String {
    use super::wish::OversizedWish;
    let one = ways.no_room == 1;
    let fate = match whole.ways.oversized {
        OversizedWish::Realtime if one => "goes by a call",
        OversizedWish::Realtime => "go by calls",
        OversizedWish::Wait if one => "waits for room",
        OversizedWish::Wait => "wait for room",
        OversizedWish::Fail if one => "is not sent",
        OversizedWish::Fail => "are not sent",
    };
    let why = match ways.queue {
        None => "no batch is large enough".to_owned(),
        Some(queue) => {
            let tokens = count(queue.tokens, "token");
            let most = match queue.is_asked_for {
                true => format!("--batch-tokens lets about {tokens} wait in the provider's queue"),
                false => {
                    format!("the provider lets about {tokens} of this model wait in its queue")
                }
            };
            match queue.enqueued {
                0 => most,
                1 => format!("{most}, where 1 waits already"),
                enqueued => format!("{most}, where {} wait already", thousands(enqueued)),
            }
        }
    };
    format!("about {} {fate}: {why}", count(ways.no_room, "request"))
}

/// Returns a provider's window as a duration is written here: `24 h` for `24h`.
fn spelled(window: &str) -> String {
    let unit = window.find(|char: char| !char.is_ascii_digit()).unwrap_or(window.len());
    format!("{} {}", &window[..unit], &window[unit..]).trim_end().to_owned()
}

fn tokens(plan: &PromptPlan) -> Vec<String> {
    let (sample, taken_up) = (&plan.sample, plan.ways.taken_up);
    let expected = &sample.expected;
    let part = |tokens: u64, what: &str| match tokens {
        0 => String::new(),
        tokens => format!(", {} of them {what}", thousands(tokens)),
    };
    let out = match expected.resolved {
        0 => "guessed".to_owned(),
        1 => "as the answer so far".to_owned(),
        answers => format!("as {} answers so far", thousands(answers)),
    };
    let most = sample.most_output(taken_up).map_or_else(
        || "no limit is known".to_owned(),
        |most| format!("at most {}", thousands(most)),
    );
    let cached = part(sample.cached(taken_up), "cached");
    let thought = part(sample.reasoning(taken_up), "thought");
    vec![
        format!("about {} in{cached} ({})", thousands(sample.input(taken_up)), expected.basis),
        format!("about {} out{thought} ({out}; {most})", thousands(sample.output(taken_up))),
    ]
}

/// Says what the numbers stand on, where that is not every request.
fn counted(plan: &PromptPlan, context: &Context) -> Vec<String> {
    let notes = &plan.sample.notes;
    let mut lines = Vec::new();
    if !plan.sample.is_whole() {
        lines.push(format!(
            "from a sample of {} of {}; `{} plan --exact` counts all",
            thousands(notes.looked),
            count(plan.left.due(), "request"),
            context.program()
        ));
    }
    match notes.same {
        0 => {}
        1 => lines.push("1 request is the same as another one, and shares its answer".to_owned()),
        same => lines.push(format!(
            "{} requests are the same as others, and share their answers",
            thousands(same)
        )),
    }
    lines
}

fn longest(plan: &PromptPlan, details: &Details) -> Vec<String> {
    let Some((tokens, spot)) = plan.sample.notes.longest else { return Vec::new() };
    let key = match &details.longest_key {
        Some(key) if key.len() <= 40 && !is_hash(key) => format!(" ({})", one_line(key, 40)),
        Some(_) | None => String::new(),
    };
    vec![format!("row #{}{key}, {} in", spot.position, count(tokens, "token"))]
}

/// Returns whether a key is that of a row without one of its own: a hash of its cells, and a number.
fn is_hash(key: &str) -> bool {
    key.split_once('-').is_some_and(|(hash, number)| {
        hash.len() == 24
            && hash.bytes().all(|byte| byte.is_ascii_hexdigit())
            && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// Says how long it would take by the ways that there are.
fn time(plan: &PromptPlan, context: &Context) -> Vec<String> {
    let calls = || match plan.calls_take(plan.ways.taken_up) {
        Some(span) => format!("{} by calls ({})", span.words(), plan.rates.basis()),
        None => format!(
            "unknown by calls until some are answered: `{} run --sample 20`, or give --rpm or --tpm",
            context.program()
        ),
    };
    if plan.ways.taken_up == 0 {
        return Vec::new();
    }
    if !plan.goes_in_batches() {
        return vec![calls()];
    }
    let window = plan
        .rates
        .window
        .map_or_else(String::new, |window| format!(", within {} each", spelled_span(window)));
    let batches = match plan.batches_take() {
        Some(span) => format!("{} in batches, going by earlier ones{window}", span.words()),
        None => format!("unknown in batches, as none has ended yet{window}"),
    };
    vec![batches, calls()]
}

/// Returns whole hours as such: `24 h`.
fn spelled_span(span: Duration) -> String {
    match span.as_secs() {
        secs if secs >= 3600 && secs.is_multiple_of(3600) => format!("{} h", secs / 3600),
        _ => duration(span),
    }
}

/// Says what the answers so far have taught.
fn learned(plan: &PromptPlan) -> Vec<String> {
    let expected = &plan.sample.expected;
    if expected.resolved == 0 {
        return Vec::new();
    }
    let attempts = expected.attempts;
    let percent = |number: u64| 100.0 * number as f64 / attempts.requests.max(1) as f64;
    let parts = [
        (attempts.truncated, "cut by the token limit"),
        (attempts.refused, "declined"),
        (attempts.invalid, "not in the form asked for"),
    ];
    let parts = parts.iter().filter(|(number, _)| *number > 0);
    let parts: Vec<String> =
        parts.map(|(number, what)| format!("{:.0}% {what}", percent(*number))).collect();
    let parts = if parts.is_empty() { String::new() } else { format!("; {}", parts.join(", ")) };
    vec![format!(
        "{}: {:.2} billed tries and {:.1} tokens out each{parts}",
        count(expected.resolved, "request"),
        expected.billed_each,
        expected.output
    )]
}

/// Says whether all can be done by the time that was asked for.
fn deadline(by: &Deadline) -> String {
    let at = moment(by.at);
    let mut words = match (by.holds, by.takes) {
        (Some(true), _) => format!("by {at}: this holds"),
        (Some(false), Some(span)) => {
            format!("by {at}: this does not hold, it takes {}", span.words())
        }
        (Some(false), None) => format!("by {at}: this does not hold"),
        (None, Some(span)) => format!("by {at}: this may hold, it takes {}", span.words()),
        (None, None) if by.has_batches => {
            format!("by {at}: nobody knows, as no batch has ended yet")
        }
        (None, None) => format!("by {at}: nobody knows, until some requests are answered"),
    };
    if !by.has_batches {
        return words;
    }
    words.push_str(
        "\nwhat batches have not answered by then is cancelled, collected and goes by calls",
    );
    if let Some(span) = by.calls_after {
        words.push_str(&format!("; for all of it these would take {} more", span.words()));
    }
    if let Some(at) = by.give() {
        words.push_str(&format!(
            "\n--by {} leaves them the time until {}",
            moment(at),
            moment(by.at)
        ));
    }
    words
}

/// Says both prices, the one that is chosen first.
fn cost(plan: &PromptPlan) -> Vec<String> {
    let (chosen, calls) = (plan.cost(), plan.cost_by_calls());
    let Some(batches) = plan.cost_in_batches() else { return vec![price(chosen, "")] };
    let has_crossed = plan.ways.calls > u64::from(plan.ways.is_canary_sent);
    let (way, other) = match plan.choice.route {
        Route::Realtime => ("by calls", (batches, "in batches")),
        Route::Batch if plan.ways.in_batches + plan.ways.waiting == 0 => {
            ("by calls", (batches, "in batches"))
        }
        Route::Batch if has_crossed => ("in batches and by calls", (calls, "by calls alone")),
        Route::Batch => ("in batches", (calls, "by calls")),
    };
    match other {
        (Cost { about: Some(cost), most: Some(most) }, other) => {
            vec![price(chosen, way), format!("about {cost} {other}, at most {most}")]
        }
        (Cost { about: Some(cost), most: None }, other) => {
            vec![price(chosen, way), format!("about {cost} {other}")]
        }
        (Cost { about: None, .. }, _) => vec![price(chosen, "by calls or in batches")],
    }
}

fn price(cost: Cost, way: &str) -> String {
    let way = if way.is_empty() { String::new() } else { format!(" {way}") };
    match (cost.about, cost.most) {
        (None, _) => format!("unknown{way}: no price is known for this model"),
        (Some(cost), None) => {
            format!("about {cost}{way}, and nobody knows at most: no limit to the output is known")
        }
        (Some(cost), Some(most)) => {
            format!("about {cost}{way}, at most {most} if nothing has to be tried again")
        }
    }
}

fn not_due(left: Left, liveness: Liveness, context: &Context) -> Vec<String> {
    let program = context.program();
    let resting = [
        (
            left.failed_for_good,
            format!(
                "failed for good: `{program} retry --failed` makes {} due",
                them(left.failed_for_good)
            ),
        ),
        (
            left.at_token_limit,
            format!("cut at the highest token limit: `{program} retry --truncated --max-tokens N`"),
        ),
        (
            left.held,
            format!(
                "in doubt and held: `{program} retry --in-doubt` makes {} due",
                them(left.held)
            ),
        ),
        (
            left.under_way,
            match liveness {
                Liveness::Running => "under way".to_owned(),
                Liveness::Idle => "in open batches".to_owned(),
            },
        ),
    ];
    let resting = resting.into_iter().filter(|(number, _)| *number > 0);
    resting.map(|(number, what)| format!("{} {what}", thousands(number))).collect()
}

fn rendered(
    store: &Store,
    (plan, whole): (&PromptPlan, &Plan),
    (examples, in_doubt): (usize, InDoubtPolicy),
) -> Result<String, Failure> {
    let policy = store.project()?.policy(&plan.prompt.spec, in_doubt);
    let parts = &tasks::parts(&plan.prompt, policy, &PriceBook::default())?;
    let (prompt, liveness, left) = (&plan.prompt, whole.liveness, plan.left);
    let subject = Subject { prompt, parts, policy, liveness, left };
    let template = &parts.template;
    let mut text = String::new();
    for row in due_rows(store, subject, examples)? {
        text.push_str(&format!("\n  row #{}\n", row.position));
        match template.render(&row.cells) {
            Ok(messages) => {
                for message in messages {
                    text.push_str(&format!("  {}:\n", message.role.as_str()));
                    for line in message.text.lines() {
                        text.push_str(&format!("    {line}\n"));
                    }
                }
            }
            Err(error) => text.push_str(&format!("    cannot be rendered: {error}\n")),
        }
    }
    Ok(text)
}
