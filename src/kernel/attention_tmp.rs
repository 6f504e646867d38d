//! tmp
use std::ops::Range;
#[derive(Debug,Clone)]
pub struct Segment{pub rows:Range<usize>,pub prefix:Vec<Range<usize>>}
pub struct AttentionShape{pub heads:usize,pub head_dim:usize,pub causal:bool}
pub fn attention(qkv:&[f32],s:&AttentionShape,segs:&[Segment],q:Option<&[usize]>,out:&mut[f32]){let w=s.heads*s.head_dim;
 let rows:Vec<usize>=match q{Some(q)=>q.to_vec(),None=>(0..qkv.len()/3/w).collect()};
 for (oi,&r) in rows.iter().enumerate(){let seg=segs.iter().find(|g|g.rows.contains(&r)).unwrap();let mut keys:Vec<usize>=seg.prefix.iter().cloned().flatten().collect();keys.extend(seg.rows.clone().filter(|k|!s.causal||*k<=r));
 for h in 0..s.heads{let o=h*s.head_dim;let d=s.head_dim;let sc:Vec<f64>=keys.iter().map(|k|(0..d).map(|i|qkv[r*3*w+o+i] as f64*qkv[k*3*w+w+o+i] as f64).sum::<f64>()/(d as f64).sqrt()).collect();let m=sc.iter().cloned().fold(f64::MIN,f64::max);let ex:Vec<f64>=sc.iter().map(|v|(v-m).exp()).collect();let t:f64=ex.iter().sum();
 for i in 0..d{out[oi*w+o+i]=(keys.iter().zip(&ex).map(|(k,e)|e*qkv[k*3*w+2*w+o+i] as f64).sum::<f64>()/t) as f32}}}}
