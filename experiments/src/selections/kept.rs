//! What was kept of one context.

use pressroom::pipeline::LayerDecision;

/// A bit for each token, KV head and layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Layers.
    pub layers: usize,
    /// KV heads of a layer.
    pub kv_heads: usize,
    /// Tokens of the context.
    pub tokens: usize,
    /// `[layers, kv_heads, tokens / 8]`, the lowest bit first.
    bits: Vec<u8>,
}

impl Kept {
    /// Nothing kept.
    pub fn nothing(layers: usize, kv_heads: usize, tokens: usize) -> Self {
        Self { layers, kv_heads, tokens, bits: vec![0; layers * kv_heads * tokens.div_ceil(8)] }
    }

    /// From what a session decided, `[layer][kv head][kept]`. Entries that a press added behind the context are none of
    /// its tokens.
    pub fn of(decisions: &[LayerDecision], tokens: usize) -> Self {
        let mut kept = Self::nothing(decisions.len(), decisions.first().map_or(0, Vec::len), tokens);
        for (layer, heads) in decisions.iter().enumerate() {
            for (head, positions) in heads.iter().enumerate() {
                for position in positions.iter().filter_map(|&position| usize::try_from(position).ok()) {
                    kept.keep(layer, head, position);
                }
            }
        }
        kept
    }

    /// From stored bytes; `None` if they are of another size.
    pub(super) fn from_bytes(layers: usize, kv_heads: usize, tokens: usize, bits: &[u8]) -> Option<Self> {
        let due = layers.checked_mul(kv_heads)?.checked_mul(tokens.div_ceil(8))?;
        (bits.len() == due).then(|| Self { layers, kv_heads, tokens, bits: bits.to_vec() })
    }

    /// The bytes that are stored.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bits
    }

    /// Keeps one more.
    pub fn keep(&mut self, layer: usize, head: usize, token: usize) {
        if layer < self.layers && head < self.kv_heads && token < self.tokens {
            let (byte, bit) = self.place(layer, head, token);
            self.bits[byte] |= bit;
        }
    }

    /// Whether a head keeps a token.
    pub fn keeps(&self, layer: usize, head: usize, token: usize) -> bool {
        let (byte, bit) = self.place(layer, head, token);
        self.bits[byte] & bit != 0
    }

    fn place(&self, layer: usize, head: usize, token: usize) -> (usize, u8) {
        ((layer * self.kv_heads + head) * self.tokens.div_ceil(8) + token / 8, 1 << (token % 8))
    }

    /// How many heads keep a token, of one layer or of all.
    pub fn heads_keeping(&self, token: usize, layer: Option<usize>) -> usize {
        let layers = layer.map_or(0..self.layers, |layer| layer..layer + 1);
        layers.map(|layer| (0..self.kv_heads).filter(|&head| self.keeps(layer, head, token)).count()).sum()
    }

    /// The fraction of heads that keep a token, of one layer or of all.
    pub fn fraction(&self, token: usize, layer: Option<usize>) -> f64 {
        let heads = self.kv_heads * layer.map_or(self.layers, |_| 1);
        self.heads_keeping(token, layer) as f64 / heads.max(1) as f64
    }

    /// Pairs kept.
    pub fn count(&self) -> usize {
        self.bits.iter().map(|byte| byte.count_ones() as usize).sum()
    }

    /// Pairs that both keep.
    pub fn common(&self, other: &Self) -> usize {
        self.bits.iter().zip(&other.bits).map(|(a, b)| (a & b).count_ones() as usize).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_those_of_the_decisions() {
        let kept = Kept::of(&[vec![vec![0, 9, 12], vec![]], vec![vec![8], vec![8, 3]]], 10);
        assert_eq!((kept.layers, kept.kv_heads, kept.count()), (2, 2, 5));
        assert!(kept.keeps(0, 0, 9) && kept.keeps(1, 1, 3) && !kept.keeps(0, 1, 9));
        assert_eq!(kept.fraction(8, None), 0.5);
        assert_eq!((kept.fraction(8, Some(1)), kept.fraction(8, Some(0))), (1.0, 0.0));
        let other = Kept::of(&[vec![vec![9], vec![9]], vec![vec![8], vec![]]], 10);
        assert_eq!(kept.common(&other), 2);
        assert_eq!(Kept::from_bytes(2, 2, 10, kept.bytes()).as_ref(), Some(&kept));
        assert_eq!(Kept::from_bytes(2, 2, 20, kept.bytes()), None);
    }
}
