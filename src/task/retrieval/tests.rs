//! Blockwise ranking compared with a sort of the whole matrix.

use super::{ROWS, *};
use crate::kernel::streamed_products;

/// `count` unit rows; few `levels` per column create ties.
fn units(seed: u64, count: usize, dim: usize, levels: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        ((state >> 33) % levels) as f32 - (levels / 2) as f32 + 0.25
    };
    let rows = (0..count).flat_map(|_| {
        let row: Vec<f32> = (0..dim).map(|_| next()).collect();
        let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
        row.into_iter().map(move |x| x / norm)
    });
    rows.collect()
}

/// The same ranks, by sorting the whole matrix.
fn by_sorting(pairs: &Pairs) -> (Vec<u32>, Vec<u32>) {
    let (dim, images) = (pairs.dim, pairs.images.len() / pairs.dim);
    let texts = pairs.image_of_text.len();
    let rows = pairs.texts.len() / dim;
    let of_row = |row: usize| pairs.text_of_row.map_or(row, |map| map[row]);
    let mut scores = vec![vec![f32::NEG_INFINITY; images]; texts];
    for row in 0..rows {
        let scores = scores[of_row(row)].iter_mut();
        for (image, score) in scores.enumerate() {
            let mut product = [0.0];
            let (a, b) = (&pairs.images[image * dim..], &pairs.texts[row * dim..]);
            streamed_products(&a[..dim], &b[..dim], dim, &mut product);
            *score = score.max(product[0]);
        }
    }
    let place = |scores: Vec<f32>, right: &dyn Fn(usize) -> bool| {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        let place = order.iter().position(|i| right(*i));
        place.map(|place| place as u32 + 1)
    };
    let by_text =
        (0..texts).filter_map(|t| place(scores[t].clone(), &|i| i == pairs.image_of_text[t]));
    let by_image = (0..images).filter_map(|i| {
        let column = scores.iter().map(|row| row[i]).collect();
        place(column, &|t| pairs.image_of_text[t] == i)
    });
    (by_text.collect(), by_image.collect())
}

#[test]
fn ranks_match_a_stable_sort_of_the_whole_matrix() {
    // Few levels give equal embeddings, and equal scores for different ones.
    for (images, texts, dim, levels) in [
        (1, 1, 3, 9),
        (7, 20, 2, 3),
        (130, 400, 2, 4),
        (70, 300, 17, 100),
        (150, 40, 3, 2),
    ] {
        let image_values = units(1, images, dim, levels);
        let text_values = units(2, texts, dim, levels);
        let image_of_text: Vec<usize> = (0..texts).map(|t| (t * 7 + t / 3) % images).collect();
        let mut pairs = Pairs {
            images: &image_values,
            texts: &text_values,
            dim,
            image_of_text: &image_of_text,
            text_of_row: None,
        };
        let found = retrieve(&pairs).unwrap();
        let expected = by_sorting(&pairs);
        assert_eq!(found.image_of_text.0, expected.0, "{images} {texts} {dim}");
        assert_eq!(found.text_of_image.0, expected.1, "{images} {texts} {dim}");

        // The same rows as texts with several chunks, in arbitrary order.
        let few = texts.div_ceil(3);
        let text_of_row: Vec<usize> = (0..texts).map(|row| row * 5 % few).collect();
        if few.is_multiple_of(5) {
            continue;
        }
        pairs.image_of_text = &image_of_text[..few];
        pairs.text_of_row = Some(&text_of_row);
        let found = retrieve(&pairs).unwrap();
        let expected = by_sorting(&pairs);
        assert_eq!(found.image_of_text.0, expected.0, "chunks of {few}");
        assert_eq!(found.text_of_image.0, expected.1, "chunks of {few}");
    }
}

#[test]
fn a_text_of_more_chunks_than_a_block_counts_once() {
    let (images, rows) = (units(3, 5, 4, 50), units(4, 3 * ROWS + 2, 4, 50));
    let text_of_row: Vec<usize> = (0..3 * ROWS + 2).map(|row| usize::from(row > 1)).collect();
    let pairs = Pairs {
        images: &images,
        texts: &rows,
        dim: 4,
        image_of_text: &[4, 1],
        text_of_row: Some(&text_of_row),
    };
    let found = retrieve(&pairs).unwrap();
    let expected = by_sorting(&pairs);
    assert_eq!(found.image_of_text.0, expected.0);
    assert_eq!(found.text_of_image.0, expected.1);
}

#[test]
fn identical_embeddings_score_at_chance_level() {
    let (images, texts) = ([1.0, 0.0].repeat(10), [0.6, 0.8].repeat(10));
    let own: Vec<usize> = (0..10).collect();
    let pairs = Pairs {
        images: &images,
        texts: &texts,
        dim: 2,
        image_of_text: &own,
        text_of_row: None,
    };
    let found = retrieve(&pairs).unwrap();
    for ranking in [&found.image_of_text, &found.text_of_image] {
        assert_eq!((ranking.recall(1), ranking.recall(5)), (0.1, 0.5));
        assert_eq!(ranking.recall(10), 1.0);
    }
}

#[test]
fn the_number_of_threads_does_not_change_the_result() {
    let (images, texts) = (units(5, 300, 8, 6), units(6, 700, 8, 6));
    let own: Vec<usize> = (0..700).map(|t| t % 300).collect();
    let pairs = Pairs {
        images: &images,
        texts: &texts,
        dim: 8,
        image_of_text: &own,
        text_of_row: None,
    };
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(|| retrieve(&pairs).unwrap())
    };
    assert_eq!(on(1), on(4));
}

#[test]
fn an_image_without_texts_is_not_a_query() {
    let pairs = Pairs {
        images: &[1.0, 0.0, 0.0, 1.0, 0.6, 0.8],
        texts: &[0.0, 1.0],
        dim: 2,
        image_of_text: &[2],
        text_of_row: None,
    };
    let found = retrieve(&pairs).unwrap();
    assert_eq!(found.image_of_text.0, [2]);
    assert_eq!(found.text_of_image.0, [1]);
}

#[test]
fn mismatched_inputs_are_refused() {
    let good = Pairs {
        images: &[1.0, 0.0],
        texts: &[0.0, 1.0],
        dim: 2,
        image_of_text: &[0],
        text_of_row: None,
    };
    let cases: [(Pairs, &str); 9] = [
        (Pairs { dim: 0, ..good }, "without columns"),
        (Pairs { dim: 3, ..good }, "whole number of image"),
        (
            Pairs {
                texts: &[1.0],
                ..good
            },
            "whole number of text",
        ),
        (
            Pairs {
                images: &[1.0, 0.5],
                ..good
            },
            "image embedding 0",
        ),
        (
            Pairs {
                texts: &[f32::NAN, 0.0],
                ..good
            },
            "text embedding 0",
        ),
        (
            Pairs {
                image_of_text: &[1],
                ..good
            },
            "belongs to image 1",
        ),
        (
            Pairs {
                image_of_text: &[0, 0],
                ..good
            },
            "has no embedding",
        ),
        (
            Pairs {
                image_of_text: &[],
                ..good
            },
            "is invalid",
        ),
        (
            Pairs {
                text_of_row: Some(&[1]),
                ..good
            },
            "is invalid",
        ),
    ];
    for (pairs, message) in cases {
        let error = retrieve(&pairs).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    assert!(retrieve(&good).is_ok());
}

#[test]
fn figures_match_hand_computed_ranks() {
    let ranking = Ranking(vec![1, 10, 2, 4]);
    assert_eq!((ranking.recall(1), ranking.recall(4)), (0.25, 0.75));
    assert_eq!((ranking.recall(0), ranking.recall(10)), (0.0, 1.0));
    assert_eq!(ranking.median(), 3.0);
    assert_eq!(Ranking(vec![5, 1, 3]).median(), 3.0);
    assert!((ranking.mean_reciprocal() - 1.85 / 4.0).abs() < 1e-12);
    let none = Ranking::default();
    assert_eq!(
        (none.recall(1), none.median(), none.mean_reciprocal()),
        (0.0, 0.0, 0.0)
    );
}
