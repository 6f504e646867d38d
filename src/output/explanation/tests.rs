use super::*;

fn word(word: &str, start: usize, value: f32) -> Word {
    Word {
        word: word.to_owned(),
        span: [start, start + word.chars().count()],
        value,
        loss: value,
        ..Word::default()
    }
}

fn explanation() -> Explanation {
    Explanation {
        image: "a\u{1b}.png".to_owned(),
        label: "red cat".to_owned(),
        quantity: "cosine",
        score: 0.3,
        cosine: 0.3,
        logit: 30.0,
        empty: 0.2,
        empty_cosine: 0.2,
        method: Some(Method {
            name: "shapley",
            parts: "words",
            samples: None,
            seed: None,
        }),
        words: vec![word("red", 0, -0.1), word("cat", 4, 0.2)],
        sum: 0.1,
        regions: Some(Regions {
            method: "occlusion",
            area: [0.0, 0.0, 4.0, 4.0],
            map: vec![vec![0.0, 0.05], vec![-0.04, 0.1]],
        }),
        ..Explanation::default()
    }
}

#[test]
fn a_table_has_bars_a_sum_and_shades() {
    let terminal = Terminal {
        width: 60,
        ..Terminal::PLAIN
    };
    let expected = "\
a\\u{1b}.png
  label       red cat
  cosine      0.3000
  logit       30.000
  empty text  0.2000

  words: Shapley values
    red  -0.1000  ░░░░░░░░░░░░░░░
    cat  +0.2000  ██████████████████████████████

  sum +0.1000 = 0.3000 less 0.2000 without words

  regions: what is lost when a cell is covered, 2 x 2 cells; a full block is +0.1000
    · ▒▒
    --██
";
    assert_eq!(explanation().table(terminal), expected);
}

#[test]
fn values_that_do_not_sum_are_said_not_to() {
    let mut one = explanation();
    (one.sum, one.rest) = (0.07, 0.03);
    let table = one.table(Terminal::PLAIN);
    assert!(table.contains("without words leaves +0.0300"), "{table}");
    one.words[0].error = Some(0.0125);
    one.words[1].words = vec![Inner {
        word: "c\nat".to_owned(),
        span: [4, 7],
        loss: 0.05,
    }];
    let table = one.table(Terminal::PLAIN);
    assert!(
        table.contains("    red      -0.1000 ± 0.0125  ░"),
        "{table}"
    );
    assert!(
        table.contains("      c\\nat  +0.0500           █"),
        "{table}"
    );
}

#[test]
fn pairs_come_with_their_remainder() {
    let mut one = explanation();
    one.pairs = Some(Pairs {
        cosine: 0.3,
        words: vec![Pair {
            word: "cat".to_owned(),
            span: [4, 7],
            value: 0.1,
            map: vec![vec![0.02, 0.01], vec![0.07, 0.0]],
        }],
        sum: 0.1,
        remainder: Remainder {
            words: 0.3,
            patches: -0.2,
            neither: 0.1,
        },
        share: 6.0 / 7.0,
    });
    let expected = "
  words with patches (2 x 2): direct contributions
    cat              +0.1000  most in row 2, column 1: +0.0700
    (words alone)    +0.3000
    (patches alone)  -0.2000
    (neither)        +0.1000

  sum +0.3000 = the cosine; pairs have +0.1000 of it, and the remainder in brackets is 86% of all in absolute terms
";
    let table = one.table(Terminal::PLAIN);
    assert!(table.ends_with(expected), "{table}");
}

#[test]
fn no_line_is_much_wider_than_the_terminal() {
    let mut one = explanation();
    one.words[0].word = "long ".repeat(60);
    one.words[0].error = Some(0.1);
    one.regions = None;
    for width in [60, 80, 120] {
        let terminal = Terminal {
            width,
            ..Terminal::PLAIN
        };
        let table = one.table(terminal);
        let widest = table.lines().map(columns).max().unwrap();
        assert!(widest <= width, "{width}: {widest}\n{table}");
    }
}

#[test]
fn nothing_is_not_negative() {
    assert_eq!(signed(-0.00001), "+0.0000");
    assert_eq!(signed(-0.0001), "-0.0001");
    assert_eq!(signed(f32::NAN), "–");
    assert_eq!(most([0.1, -0.3].into_iter()), 0.3);
}
