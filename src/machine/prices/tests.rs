use proptest::prelude::*;

use super::terms::{Long, Parts};
use super::*;
use crate::domain::{LongPrice, NanoUsd, Usage};

fn name(text: &str) -> ModelName {
    ModelName::parse(text).unwrap()
}

fn price(input: i64, cached: i64, output: i64) -> Price {
    Price {
        input_per_mtok: NanoUsd(input),
        cached_per_mtok: NanoUsd(cached),
        cache_write_per_mtok: NanoUsd(input),
        output_per_mtok: NanoUsd(output),
        reasoning_per_mtok: NanoUsd(output),
        long: None,
    }
}

/// Of dollars per million tokens.
const fn usd(thousandths: i64) -> NanoUsd {
    NanoUsd(thousandths * 1_000_000)
}

mod bundled {
    use super::*;

    #[test]
    fn the_table_is_whole_dated_and_plausible() {
        let table = PriceTable::bundled();
        assert!(table.rows.len() > 140);
        for (model, listed) in &table.rows {
            assert!(
                listed.as_of.is_some_and(|day| day >= jiff::civil::date(2026, 11, 1)),
                "{model}"
            );
            for (price, dearest) in [(listed.price, 200_000), (listed.batch, 100_000)] {
                let dearest = if listed.batch == listed.price { 200_000 } else { dearest };
                is_plausible(model, &price, usd(dearest));
            }
            assert!(is_no_dearer(&listed.batch, &listed.price), "{model}");
            let limits = (listed.max_input_tokens, listed.max_output_tokens);
            if model.provider == "simulated" {
                assert_eq!(limits, (None, None));
            } else {
                assert!(
                    limits.0.is_some_and(|most| (8_000..=2_100_000).contains(&most)),
                    "{model}"
                );
                assert!(limits.1.is_none_or(|most| (4_000..=2_100_000).contains(&most)), "{model}");
                assert!(listed.price.long.is_none_or(|long| Some(long.above_tokens) < limits.0));
            }
        }
    }

    fn is_plausible(model: &ModelName, price: &Price, dearest: NanoUsd) {
        let Price {
            input_per_mtok,
            cached_per_mtok,
            cache_write_per_mtok,
            output_per_mtok,
            reasoning_per_mtok,
            long,
        } = *price;
        let fourths = if bills_writes(model) { 5 } else { 4 };
        let is_usual = |input: NanoUsd, written: NanoUsd| written.0 * 4 == input.0 * fourths;
        assert!(is_usual(input_per_mtok, cache_write_per_mtok), "{model}");
        assert!(NanoUsd(0) < cached_per_mtok && cached_per_mtok <= input_per_mtok, "{model}");
        assert!(input_per_mtok <= output_per_mtok, "{model}");
        assert!(output_per_mtok <= reasoning_per_mtok, "{model}");
        assert!(output_per_mtok <= dearest, "{model}");
        if let Some(long) = long {
            assert!(is_usual(long.input_per_mtok, long.cache_write_per_mtok), "{model}");
            assert!((100_000..=1_000_000).contains(&long.above_tokens), "{model}");
            let twice = |short: NanoUsd| NanoUsd(short.0 * 2);
            assert!(
                input_per_mtok < long.input_per_mtok
                    && long.input_per_mtok <= twice(input_per_mtok),
                "{model}"
            );
            assert!(
                cached_per_mtok < long.cached_per_mtok
                    && long.cached_per_mtok <= twice(cached_per_mtok),
                "{model}"
            );
            assert!(
                output_per_mtok < long.output_per_mtok
                    && long.output_per_mtok <= twice(output_per_mtok),
                "{model}"
            );
        }
    }

    /// Says whether what is put into the cache costs a quarter more: at OpenAI from gpt-5.6 on.
    fn bills_writes(model: &ModelName) -> bool {
        let version = model.model.strip_prefix("gpt-").and_then(|rest| rest.split('-').next());
        let version = version.and_then(|version| version.parse::<f64>().ok());
        model.provider == "openai" && version.is_some_and(|version| version >= 5.6)
    }

    fn is_no_dearer(batch: &Price, call: &Price) -> bool {
        // Cached tokens may be: some providers know no cache in batches.
        batch.input_per_mtok <= call.input_per_mtok
            && batch.output_per_mtok <= call.output_per_mtok
            && batch.reasoning_per_mtok <= call.reasoning_per_mtok
            && batch.cached_per_mtok <= call.input_per_mtok
    }

    #[test]
    fn each_row_says_what_the_price_page_says() {
        let table = PriceTable::bundled();
        let of = |model: &str| *table.listed(&name(model)).unwrap();
        assert_eq!(of("openai/gpt-5-mini").price, price(250_000_000, 25_000_000, 2_000_000_000));
        assert_eq!(of("openai/gpt-5-mini").batch, price(125_000_000, 12_500_000, 1_000_000_000));
        // No cached price in batches.
        assert_eq!(of("openai/gpt-4.1").batch, price(1_000_000_000, 1_000_000_000, 4_000_000_000));
        assert_eq!(of("xai/grok-4.3").batch.output_per_mtok, usd(2_000));
        assert_eq!(
            of("gemini/gemini-2.5-flash").batch,
            price(150_000_000, 30_000_000, 1_250_000_000)
        );
        let long = of("openai/gpt-5.5");
        let wanted = |thousandths: [i64; 3]| LongPrice {
            above_tokens: 272_000,
            input_per_mtok: usd(thousandths[0]),
            cached_per_mtok: usd(thousandths[1]),
            cache_write_per_mtok: usd(thousandths[0]),
            output_per_mtok: usd(thousandths[2]),
            reasoning_per_mtok: usd(thousandths[2]),
        };
        assert_eq!(long.price.long, Some(wanted([10_000, 1_000, 45_000])));
        assert_eq!(long.batch.long, Some(wanted([5_000, 500, 22_500])));
        assert_eq!(
            (long.max_input_tokens, long.max_output_tokens),
            (Some(1_050_000), Some(128_000))
        );
        let luna = of("openai/gpt-5.6-luna");
        let written =
            |price: &Price| (price.cache_write_per_mtok, price.long.unwrap().cache_write_per_mtok);
        assert_eq!(written(&luna.price), (usd(250), usd(500)));
        assert_eq!(written(&luna.batch), (usd(125), usd(250)));
        let small = of("simulated/small");
        assert_eq!(small.price, price(100_000_000, 10_000_000, 500_000_000));
        assert_eq!(of("simulated/whatever"), small);
    }

    #[test]
    fn every_provider_that_is_said_to_have_batches_has_its_usual_discount() {
        let table = PriceTable::bundled();
        for provider in
            ["openai", "anthropic", "gemini", "mistral", "groq", "fireworks", "deepinfra"]
        {
            let part = 100 - i64::from(usual_batch_discount(provider));
            let rows: Vec<_> =
                table.rows.iter().filter(|(model, _)| model.provider == provider).collect();
            let usual = rows.iter().filter(|(_, listed)| {
                listed.batch.input_per_mtok.0 * 100 == listed.price.input_per_mtok.0 * part
            });
            assert!(part < 100 && usual.count() * 10 >= rows.len() * 9, "{provider}");
        }
    }

    #[test]
    fn a_dated_snapshot_costs_what_its_model_costs_unless_it_has_a_row() {
        let table = PriceTable::bundled();
        let of = |model: &str| table.lookup(&name(model));
        assert_eq!(of("gpt-5-mini-2025-08-07"), of("gpt-5-mini"));
        assert_eq!(of("anthropic/claude-haiku-4-5-20251001"), of("anthropic/claude-haiku-4-5"));
        assert!(of("anthropic/claude-haiku-4-5").is_some());
        assert_ne!(of("gpt-4o-2024-05-13"), of("gpt-4o"));
        for unknown in [
            "gpt-5-mini-2025-08-7",
            "gpt-5-mini-large",
            "gpt-5-mini-",
            "groq/gpt-5-mini",
            "ft:gpt-4o-mini-2024-07-18:me::id",
            "-2025-08-07",
            "모델-2025-08-07",
            "8월-20250807",
        ] {
            assert_eq!(of(unknown), None, "{unknown}");
        }
    }
}

mod sheets {
    use super::*;

    const HEADER: &str = "provider,model,input_usd_per_mtok,cached_usd_per_mtok,\
        output_usd_per_mtok,batch_discount_percent,as_of\n";

    fn parsed(rows: &str) -> Result<PriceTable, SheetError> {
        PriceTable::parse(&format!("{HEADER}{rows}"))
    }

    #[test]
    fn a_table_of_ones_own_replaces_rows_and_may_leave_columns_out() {
        let own = "\u{feff}# By hand.\nmodel, provider ,output_usd_per_mtok,input_usd_per_mtok\n\
            small,simulated,2,1\n# And one more.\n x , openai , .5 , 0 \n y, acme, 2, 1\n";
        let table = PriceTable::bundled().with(PriceTable::parse(own).unwrap());
        let small = table.listed(&name("simulated/small")).unwrap();
        assert_eq!(small.price, price(1_000_000_000, 1_000_000_000, 2_000_000_000));
        // What is usual at the provider, where nothing is said.
        assert_eq!(small.batch, price(500_000_000, 500_000_000, 1_000_000_000));
        assert_eq!(small.as_of, None);
        assert_eq!(table.lookup(&name("openai/x")), Some(price(0, 0, 500_000_000)));
        let unheard_of = table.listed(&name("acme/y")).unwrap();
        assert_eq!(unheard_of.batch, unheard_of.price);
        assert!(table.lookup(&name("openai/gpt-5")).is_some());
    }

    #[test]
    fn all_columns_are_read() {
        let table = PriceTable::parse(
            "provider,model,input_usd_per_mtok,cached_usd_per_mtok,cache_write_usd_per_mtok,output_usd_per_mtok,\
             reasoning_usd_per_mtok,batch_input_usd_per_mtok,batch_cached_usd_per_mtok,batch_cache_write_usd_per_mtok,\
             batch_output_usd_per_mtok,batch_reasoning_usd_per_mtok,long_above_tokens,long_input_usd_per_mtok,\
             long_cached_usd_per_mtok,long_cache_write_usd_per_mtok,long_output_usd_per_mtok,\
             long_reasoning_usd_per_mtok,max_input_tokens,max_output_tokens,as_of,note\n\
             acme,m,1,0.1,1.5,10,20,0.8,0.08,0.9,7,14,1000,2,0.2,5,15,30,5000,500,2026-11-20,seen\n",
        )
        .unwrap();
        let listed = table.listed(&name("acme/m")).unwrap();
        let five = |parts: [i64; 5]| parts.map(usd);
        let of = |price: &Price| {
            [
                price.input_per_mtok,
                price.cached_per_mtok,
                price.cache_write_per_mtok,
                price.output_per_mtok,
                price.reasoning_per_mtok,
            ]
        };
        let of_long = |price: &Price| {
            let long = price.long.unwrap();
            assert_eq!(long.above_tokens, 1000);
            [
                long.input_per_mtok,
                long.cached_per_mtok,
                long.cache_write_per_mtok,
                long.output_per_mtok,
                long.reasoning_per_mtok,
            ]
        };
        assert_eq!(of(&listed.price), five([1_000, 100, 1_500, 10_000, 20_000]));
        assert_eq!(of(&listed.batch), five([800, 80, 900, 7_000, 14_000]));
        assert_eq!(of_long(&listed.price), five([2_000, 200, 5_000, 15_000, 30_000]));
        // As much less as a short one.
        assert_eq!(of_long(&listed.batch), five([1_600, 160, 4_000, 10_500, 21_000]));
        assert_eq!((listed.max_input_tokens, listed.max_output_tokens), (Some(5000), Some(500)));
        assert_eq!(listed.as_of, Some(jiff::civil::date(2026, 11, 20)));
    }

    #[test]
    fn a_batch_costs_less_and_rounds_up() {
        let of = |percent: &str| {
            let table = parsed(&format!("openai,a,0.150000001,0.000000001,0,{percent},")).unwrap();
            table.listed(&name("a")).unwrap().batch
        };
        assert_eq!(of("50"), price(75_000_001, 1, 0));
        assert_eq!(of("0"), price(150_000_001, 1, 0));
        assert_eq!(of("100"), price(0, 0, 0));
    }

    #[test]
    fn what_cannot_be_read_names_its_line_and_cell() {
        let told = |rows: &str| parsed(rows).unwrap_err().to_string();
        assert_eq!(
            told("openai,a,1,1,1,0,2026-01-01\nopenai,b,-1,,1,,"),
            "line 3 of the price table: input_usd_per_mtok is \"-1\", which is not an amount in \
             USD such as 0.15, below a million"
        );
        assert_eq!(
            told("openai,a,1,,1,,\n# a remark\nopenai,a,2,,2,,"),
            "line 4 of the price table: openai/a is there twice"
        );
        assert!(told("openai,a,1,,1,101,").contains("batch_discount_percent is \"101\""));
        assert!(told("openai,a,1,,1,,yesterday").contains("as_of is \"yesterday\""));
        assert!(told("openai,,1,,1,,").contains("model is \"openai/\""));
        assert!(told("openai,a,,,1,,").contains("input_usd_per_mtok is \"\""));
        assert_eq!(told("openai,a,1"), "the price table is not valid CSV");
        assert_eq!(
            PriceTable::parse("provider,model,price\n").unwrap_err().to_string(),
            "the price table has no column input_usd_per_mtok; it needs provider, model, \
             input_usd_per_mtok, output_usd_per_mtok"
        );
        let typo =
            PriceTable::parse("provider,model,input_usd_per_mtok,output_usd_per_mtok,cache\n");
        assert!(
            typo.unwrap_err()
                .to_string()
                .starts_with("the price table has a column \"cache\", which is none of")
        );
        let lost = "provider,model,input_usd_per_mtok,output_usd_per_mtok,long_input_usd_per_mtok\na,b,1,2,3\n";
        assert!(
            PriceTable::parse(lost).unwrap_err().to_string().contains("long_above_tokens is \"\"")
        );
        assert!(PriceTable::parse("").is_err());
    }

    proptest! {
        #[test]
        fn no_text_can_make_it_panic(text in "\\PC{0,60}", model in "\\PC{1,20}") {
            let _ = PriceTable::parse(&text);
            let _ = parsed(&text);
            let _ = undated(&model);
        }
    }
}

mod communitys;

mod on_record {
    use super::*;

    fn any_price() -> impl Strategy<Value = Price> {
        let five = prop::array::uniform5(0..1_000_000_000_000_i64);
        (five.clone(), prop::option::of((1..10_000_000_u64, five))).prop_map(|(short, long)| {
            Price {
                input_per_mtok: NanoUsd(short[0]),
                cached_per_mtok: NanoUsd(short[1]),
                output_per_mtok: NanoUsd(short[2]),
                reasoning_per_mtok: NanoUsd(short[3]),
                cache_write_per_mtok: NanoUsd(short[4]),
                long: long.map(|(above_tokens, long)| LongPrice {
                    above_tokens,
                    input_per_mtok: NanoUsd(long[0]),
                    cached_per_mtok: NanoUsd(long[1]),
                    output_per_mtok: NanoUsd(long[2]),
                    reasoning_per_mtok: NanoUsd(long[3]),
                    cache_write_per_mtok: NanoUsd(long[4]),
                }),
            }
        })
    }

    #[test]
    fn terms_are_whole_nano_usd_under_plain_names() {
        let terms = Terms {
            price_in: usd(150),
            price_out: usd(600),
            price_cache_write: Some(usd(200)),
            batch_discount: Some(30),
            max_output_tokens: Some(500),
            ..Terms::default()
        };
        let text = serde_json::to_string(&terms).unwrap();
        let wanted = r#"{"price_in":150000000,"price_out":600000000,"price_cache_write":200000000,"batch_discount":30,"max_output_tokens":500}"#;
        assert_eq!(text, wanted);
        assert_eq!(serde_json::from_str::<Terms>(&text).unwrap(), terms);
        let batch = price(105_000_000, 105_000_000, 420_000_000);
        let batch = Price { cache_write_per_mtok: usd(140), ..batch };
        assert_eq!(terms.listed("openai").batch, batch);
        for wrong in [
            r#"{"price_in":1}"#,
            r#"{"price_in":1,"price_out":0.5}"#,
            r#"{"price_in":1,"price_out":1,"price_inn":2}"#,
            r#"{"price_in":1,"price_out":1,"long":{"price_in":2}}"#,
        ] {
            assert!(serde_json::from_str::<Terms>(wrong).is_err(), "{wrong}");
        }
    }

    /// A ratio that comes to more than a table may hold must not spoil what is remembered.
    #[test]
    fn what_is_worked_out_is_such_as_a_table_may_hold() {
        let dear = Parts { price_in: Some(usd(900)), ..Parts::default() };
        let steep = Terms {
            price_in: NanoUsd(1),
            price_out: usd(1),
            price_cache_write: Some(usd(900)),
            long: Some(Long { above_tokens: 9, prices: dear }),
            ..Terms::default()
        };
        assert!(Terms::of(&steep.listed("openai")).is_sound());
    }

    proptest! {
        /// Whatever a file said, a later run goes by the same.
        #[test]
        fn a_price_that_was_remembered_is_the_same_price(
            price in any_price(),
            batch in any_price(),
            limits in (prop::option::of(1..9_000_000_u64), prop::option::of(1..9_000_000_u64)),
        ) {
            // A batch is as long as a call.
            let long = price.long.and(batch.long).map(|long| LongPrice {
                above_tokens: price.long.map_or(0, |long| long.above_tokens),
                ..long
            });
            let price = Price { long: price.long.filter(|_| long.is_some()), ..price };
            let listed = ListedPrice {
                price,
                batch: Price { long, ..batch },
                max_input_tokens: limits.0,
                max_output_tokens: limits.1,
                as_of: Some(jiff::civil::date(2026, 11, 23)),
            };
            let text = serde_json::to_string(&Terms::of(&listed)).unwrap();
            let again: Terms = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(again.listed("openai"), listed);
            prop_assert_eq!(again.listed("acme"), listed);
            let usage = Usage { input: 5, cached: 2, cache_write: 1, output: 7, reasoning: 3 };
            prop_assert!(listed.price.of(usage).0 >= 0);
        }
    }
}
