//! The page that a person reads.

use super::estimate::{Cost, due_rows};
use super::ways::Split;
use super::{Plan, PromptPlan, words};
use crate::cli::Context;
use crate::cli::failure::Failure;
use crate::cli::prices::PriceBook;
use crate::cli::server;
use crate::cli::tasks;
use crate::cli::text::{count, them, thousands};
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
    for one in &plan.prompts {
        text.push_str(&prompt(one, plan, context)?);
        if one.left.due() > 0 {
            text.push_str(&rendered(store, one, (examples, in_doubt))?);
        }
    }
    Ok(text)
}

fn prompt(plan: &PromptPlan, whole: &Plan, context: &Context) -> Result<String, Failure> {
    let (prompt, left) = (&plan.prompt, plan.left);
    let place = match &plan.place {
        server::Place::Embedded => "the simulator in this program; answers are made up",
        server::Place::Own(url) | server::Place::Custom(url) => url,
    };
    let mut lines = vec![
        format!("\nprompt {} version {}", prompt.name, prompt.version),
        field("model", &format!("{}, {}", prompt.spec.model, prompt.spec.endpoint.as_str())),
        field("server", place),
        field("due", &due(plan)),
    ];
    if left.due() > 0 {
        let why = words::why(plan, whole.ways.limit);
        lines.push(field("route", &format!("{}, because {why}", plan.choice.route.as_str())));
        lines.extend(section("batches", &batches(plan, whole)?));
        lines.push(field("tokens", &tokens(plan)));
        lines.extend(section("cost", &cost(plan)));
    }
    if left.answered > 0 {
        lines.push(field("answered", &count(left.answered, "request")));
    }
    lines.extend(section("not due", &not_due(left, whole.liveness, context)));
    Ok(lines.join("\n") + "\n")
}

fn field(name: &str, value: &str) -> String {
    format!("  {name:<9} {value}")
}

fn section(name: &str, values: &[String]) -> Vec<String> {
    let named = |(index, value): (usize, &String)| field(if index == 0 { name } else { "" }, value);
    values.iter().enumerate().map(named).collect()
}

fn due(plan: &PromptPlan) -> String {
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
        0 => "; --limit takes up none of them".to_owned(),
        some => format!("; --limit takes up {} of them", thousands(some)),
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

fn tokens(plan: &PromptPlan) -> String {
    let (sample, taken_up) = (&plan.sample, plan.ways.taken_up);
    let basis = if sample.is_guess { "guessed" } else { "as answers so far" };
    let most = sample.most_output(taken_up).map_or_else(
        || "no limit is set".to_owned(),
        |most| format!("at most {}", thousands(most)),
    );
    format!(
        "about {} in, {} out ({basis}; {most})",
        thousands(sample.input(taken_up)),
        thousands(sample.output(taken_up))
    )
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
            format!("about {cost}{way}; no max_tokens is set, so there is no ceiling")
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
    plan: &PromptPlan,
    (examples, in_doubt): (usize, InDoubtPolicy),
) -> Result<String, Failure> {
    let policy = store.project()?.policy(&plan.prompt.spec, in_doubt);
    let template = tasks::parts(&plan.prompt, policy, &PriceBook::default())?.template;
    let mut text = String::new();
    for row in due_rows(store, &plan.prompt, policy, examples)? {
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
