//! Positions on the earth as numbers that sort by place, and distances between them: Redis's geohashes of 52 bits.
//!
//! Latitude (up to 85.05 degrees) and longitude are each cut in two again and again; the halves taken are bits, in turn.
//! The distance is the haversine's, on a sphere. All computed in the order in which Redis's `geohash_helper.c` does, so
//! that results are equal to the last digit. Knows nothing of keys or sorted sets.

use std::f64::consts::PI;

/// Bits of each coordinate in a score.
pub const STEPS_MAX: u32 = 26;
const EARTH_RADIUS_METERS: f64 = 6_372_797.560_856;
const MERCATOR_MAX: f64 = 20_037_726.37;
const DEGREE: f64 = PI / 180.0;
const ODD_BITS: u64 = 0xaaaa_aaaa_aaaa_aaaa;
const EVEN_BITS: u64 = 0x5555_5555_5555_5555;

/// Between which degrees a coordinate lies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    pub min: f64,
    pub max: f64,
}

/// What scores are made with.
pub const LONGITUDES: Span = Span { min: -180.0, max: 180.0 };
pub const LATITUDES: Span = Span { min: -85.051_128_78, max: 85.051_128_78 };
/// What the standard's geohash texts are made with.
const STANDARD_LATITUDES: Span = Span { min: -90.0, max: 90.0 };

/// A place in degrees.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Position {
    pub longitude: f64,
    pub latitude: f64,
}

/// A cell of the grid of `2^steps` by `2^steps` cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Latitude's bits at even places, longitude's at odd ones.
    pub bits: u64,
    pub steps: u32,
}

/// The edges of a cell.
#[derive(Clone, Copy, Debug)]
struct Area {
    longitude: Span,
    latitude: Span,
}

/// What is searched, around a position; lengths in meters.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    Circle { radius: f64 },
    Box { width: f64, height: f64 },
}

impl Position {
    /// Whether scores can say it.
    pub fn is_valid(self) -> bool {
        (LONGITUDES.min..=LONGITUDES.max).contains(&self.longitude)
            && (LATITUDES.min..=LATITUDES.max).contains(&self.latitude)
    }

    /// The score of a member there.
    pub fn score(self) -> f64 {
        Cell::of(self, LATITUDES, STEPS_MAX).bits as f64
    }

    /// Where a member with that score is.
    pub fn of_score(score: f64) -> Position {
        let area = Cell { bits: to_bits(score), steps: STEPS_MAX }.area();
        let middle =
            |span: Span, limit: Span| ((span.min + span.max) / 2.0).min(limit.max).max(limit.min);
        Position {
            longitude: middle(area.longitude, LONGITUDES),
            latitude: middle(area.latitude, LATITUDES),
        }
    }

    /// The standard's geohash; its last letter is always 0.
    pub fn text(self) -> [u8; 11] {
        const LETTERS: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";
        let bits = Cell::of(self, STANDARD_LATITUDES, STEPS_MAX).bits;
        let mut text = [LETTERS[0]; 11];
        for (index, letter) in text[..10].iter_mut().enumerate() {
            *letter = LETTERS[(bits >> (52 - (index + 1) * 5)) as usize & 31];
        }
        text
    }

    /// Meters to another position.
    pub fn distance(self, other: Position) -> f64 {
        let (from, to) = (self.longitude * DEGREE, other.longitude * DEGREE);
        let v = ((to - from) / 2.0).sin();
        if v == 0.0 {
            return latitude_distance(self.latitude, other.latitude);
        }
        let (from, to) = (self.latitude * DEGREE, other.latitude * DEGREE);
        let u = ((to - from) / 2.0).sin();
        let a = u * u + from.cos() * to.cos() * v * v;
        2.0 * EARTH_RADIUS_METERS * a.sqrt().asin()
    }
}

fn latitude_distance(from: f64, to: f64) -> f64 {
    EARTH_RADIUS_METERS * (to * DEGREE - from * DEGREE).abs()
}

/// Whether a distance isn't above a limit; one that isn't a number passes in Redis, too.
fn within(distance: f64, limit: f64) -> bool {
    let above = distance > limit;
    !above
}

/// A score as C converts it, whatever a client made it.
fn to_bits(score: f64) -> u64 {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if score < LIMIT {
        return score as i64 as u64;
    }
    let rest = score - LIMIT;
    if rest < LIMIT { rest as u64 ^ 1 << 63 } else { 0 }
}

impl Cell {
    /// The cell that a position lies in, with longitudes of the whole circle.
    fn of(position: Position, latitudes: Span, steps: u32) -> Cell {
        let cells = (1u64 << steps) as f64;
        let index =
            |value: f64, span: Span| ((value - span.min) / (span.max - span.min) * cells) as u32;
        let bits = spread(index(position.latitude, latitudes))
            | spread(index(position.longitude, LONGITUDES)) << 1;
        Cell { bits, steps }
    }

    fn area(self) -> Area {
        let cells = (1u64 << self.steps) as f64;
        let span = |index: u32, limit: Span| {
            let scale = limit.max - limit.min;
            Span {
                min: limit.min + f64::from(index) / cells * scale,
                max: limit.min + (f64::from(index) + 1.0) / cells * scale,
            }
        };
        Area {
            longitude: span(gather(self.bits >> 1), LONGITUDES),
            latitude: span(gather(self.bits), LATITUDES),
        }
    }

    /// The cell so many to the east and north, round the edges.
    fn moved(self, east: i64, north: i64) -> Cell {
        let unused = 64 - self.steps * 2;
        let step = |moving: u64, still: u64, by: i64| {
            let (bits, still) = (self.bits & moving, still >> unused);
            let bits = match by {
                0 => return bits,
                1.. => bits.wrapping_add(still + 1),
                _ => (bits | still).wrapping_sub(still + 1),
            };
            bits & moving >> unused
        };
        Cell { bits: step(ODD_BITS, EVEN_BITS, east) | step(EVEN_BITS, ODD_BITS, north), ..self }
    }

    /// The scores of members inside: from the first, below the second.
    pub fn scores(self) -> (f64, f64) {
        let shift = 52 - self.steps * 2;
        ((self.bits << shift) as f64, ((self.bits + 1) << shift) as f64)
    }
}

/// The bits of a number at even places.
fn spread(number: u32) -> u64 {
    (0..32).fold(0, |bits, index| bits | u64::from(number >> index & 1) << (2 * index))
}

/// The bits at even places.
fn gather(bits: u64) -> u32 {
    (0..32).fold(0, |number, index| number | ((bits >> (2 * index) & 1) as u32) << index)
}

impl Shape {
    /// The distance of a position from the middle, if it is inside.
    pub fn distance(self, middle: Position, position: Position) -> Option<f64> {
        match self {
            Shape::Circle { radius } => {
                let distance = middle.distance(position);
                within(distance, radius).then_some(distance)
            }
            Shape::Box { width, height } => {
                if latitude_distance(position.latitude, middle.latitude) > height / 2.0 {
                    return None;
                }
                let beside = Position { longitude: middle.longitude, ..position };
                let inside = within(position.distance(beside), width / 2.0);
                inside.then(|| middle.distance(position))
            }
        }
    }

    /// The cells that may hold members inside, in the order in which Redis looks: the middle's, then N, S, E, W, NE, NW,
    /// SE, SW. Useless ones are left out.
    pub fn cells(self, middle: Position) -> Vec<Cell> {
        const AROUND: [(i64, i64); 8] =
            [(0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)];
        let bounds = self.bounds(middle);
        let mut steps = steps_for(self.reach(), middle.latitude);
        let mut cell = Cell::of(middle, LATITUDES, steps);
        let [north, south, east, west] =
            [0, 1, 2, 3].map(|side| cell.moved(AROUND[side].0, AROUND[side].1).area());
        let too_small = north.latitude.max < bounds.latitude.max
            || south.latitude.min > bounds.latitude.min
            || east.longitude.max < bounds.longitude.max
            || west.longitude.min > bounds.longitude.min;
        if steps > 1 && too_small {
            steps -= 1;
            cell = Cell::of(middle, LATITUDES, steps);
        }
        let area = cell.area();
        let useless = |(east, north): (i64, i64)| {
            steps >= 2
                && ((north < 0 && area.latitude.min < bounds.latitude.min)
                    || (north > 0 && area.latitude.max > bounds.latitude.max)
                    || (east < 0 && area.longitude.min < bounds.longitude.min)
                    || (east > 0 && area.longitude.max > bounds.longitude.max))
        };
        let mut cells = vec![cell];
        for side in AROUND {
            let next = cell.moved(side.0, side.1);
            // Round the earth the same cell may follow itself; Redis doesn't compare with the middle's.
            let again = cells.len() > 1 && cells.last() == Some(&next);
            if !useless(side) && !again {
                cells.push(next);
            }
        }
        cells
    }

    /// Half the diagonal, or the radius.
    fn reach(self) -> f64 {
        match self {
            Shape::Circle { radius } => radius,
            Shape::Box { width, height } => {
                ((width / 2.0) * (width / 2.0) + (height / 2.0) * (height / 2.0)).sqrt()
            }
        }
    }

    fn bounds(self, middle: Position) -> Area {
        let (width, height) = match self {
            Shape::Circle { radius } => (radius, radius),
            Shape::Box { width, height } => (width / 2.0, height / 2.0),
        };
        let up = height / EARTH_RADIUS_METERS / DEGREE;
        let nearer_to_pole = if middle.latitude < 0.0 { -up } else { up };
        let cosine = ((middle.latitude + nearer_to_pole) * DEGREE).cos();
        let aside = width / EARTH_RADIUS_METERS / cosine / DEGREE;
        Area {
            longitude: Span { min: middle.longitude - aside, max: middle.longitude + aside },
            latitude: Span { min: middle.latitude - up, max: middle.latitude + up },
        }
    }
}

/// How fine a grid has cells about as large as the search.
fn steps_for(mut reach: f64, latitude: f64) -> u32 {
    if reach == 0.0 {
        return STEPS_MAX;
    }
    let mut steps = 1;
    while reach < MERCATOR_MAX {
        reach *= 2.0;
        steps += 1;
    }
    // So that the search is inside of nine cells in most cases; towards the poles cells get narrow.
    steps -= 2;
    if latitude.abs() > 66.0 {
        steps -= 1;
    }
    if latitude.abs() > 80.0 {
        steps -= 1;
    }
    steps.clamp(1, STEPS_MAX as i32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const PALERMO: Position = Position { longitude: 13.361389, latitude: 38.115556 };
    const CATANIA: Position = Position { longitude: 15.087269, latitude: 37.502669 };

    #[test]
    fn the_documentation_s_examples() {
        assert_eq!(PALERMO.score(), 3_479_099_956_230_698.0);
        assert_eq!(CATANIA.score(), 3_479_447_370_796_909.0);
        let (from, to) = (Position::of_score(PALERMO.score()), Position::of_score(CATANIA.score()));
        assert_eq!(format!("{:.4}", from.distance(to)), "166274.1516");
        assert_eq!(&from.text(), b"sqc8b49rny0");
        assert_eq!(&to.text(), b"sqdtr74hyu0");
    }

    #[test]
    fn cells_cover_the_shape_and_odd_scores_are_somewhere() {
        for radius in [1.0, 1e3, 1e5, 5e6, 3e7, f64::INFINITY] {
            for latitude in [-85.0, -70.0, 0.0, 40.0, 85.0] {
                let middle = Position { longitude: 179.9, latitude };
                let cells = Shape::Circle { radius }.cells(middle);
                assert!((1..=9).contains(&cells.len()));
                let score = middle.score();
                let inside = |cell: &Cell| (cell.scores().0..cell.scores().1).contains(&score);
                assert!(cells.iter().any(inside));
            }
        }
        for score in [-3.5, f64::INFINITY, f64::NEG_INFINITY, 1e300, -1e300, 1.8e19] {
            assert!(Position::of_score(score).is_valid());
        }
    }
}
