/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernels: declarations of the CPU kernels, by file. Included by engine/cpu/vec/ only: CPU_KERNEL(name) declares the
 * one of this build's instruction set, gd_cpu_<name> without CPU_FN is common to all.
 */
#ifndef GRADD_CPU_VEC_KERNELS_H
#define GRADD_CPU_VEC_KERNELS_H

#include "cpu/kernels.h"
#include "cpu/map.h"

/* copy.c: the conversion of a run of elements; NULL where there is none but convert_any. */
gd_cpu_convert_func_t CPU_FN(convert_find)(int32_t from, int32_t to);

/* elementwise.c */
CPU_KERNEL(add);
CPU_KERNEL(sub);
CPU_KERNEL(mul);
CPU_KERNEL(div);
CPU_KERNEL(scale);
CPU_KERNEL(neg);
CPU_KERNEL(exp);
CPU_KERNEL(log);
CPU_KERNEL(sqrt);
CPU_KERNEL(pow);
CPU_KERNEL(power_scalar); /* part of pow */
/* unary.c */
CPU_KERNEL(abs);
CPU_KERNEL(sign);
CPU_KERNEL(square);
CPU_KERNEL(floor);
CPU_KERNEL(ceil);
CPU_KERNEL(round);
CPU_KERNEL(trunc);
CPU_KERNEL(sin);
CPU_KERNEL(cos);
CPU_KERNEL(tan);
CPU_KERNEL(exp2);
CPU_KERNEL(expm1);
CPU_KERNEL(log1p);
CPU_KERNEL(log2);
CPU_KERNEL(log10);
CPU_KERNEL(erf);
CPU_KERNEL(rsqrt);
CPU_KERNEL(reciprocal);
CPU_KERNEL(isnan);
CPU_KERNEL(isinf);
CPU_KERNEL(isfinite);
CPU_KERNEL(logical_not);
CPU_KERNEL(clamp);
CPU_KERNEL(unary_backward);
/* binary.c */
CPU_KERNEL(maximum);
CPU_KERNEL(minimum);
CPU_KERNEL(power);
CPU_KERNEL(fmod);
CPU_KERNEL(remainder);
CPU_KERNEL(atan2);
CPU_KERNEL(eq);
CPU_KERNEL(ne);
CPU_KERNEL(lt);
CPU_KERNEL(le);
CPU_KERNEL(gt);
CPU_KERNEL(ge);
CPU_KERNEL(logical_and);
CPU_KERNEL(logical_or);
CPU_KERNEL(logical_xor);
CPU_KERNEL(where);
CPU_KERNEL(fmod_any); /* fmod and remainder without their check */
CPU_KERNEL(remainder_any);
/* fold.c */
CPU_KERNEL(amax);
CPU_KERNEL(amin);
CPU_KERNEL(prod);
CPU_KERNEL(norm);
CPU_KERNEL(any);
CPU_KERNEL(all);
CPU_KERNEL(argmax);
CPU_KERNEL(argmin);
CPU_KERNEL(sum_integers); /* part of sum */
/* scan.c */
CPU_KERNEL(cumsum);
CPU_KERNEL(cumprod);
/* activation.c */
CPU_KERNEL(relu);
CPU_KERNEL(relu_backward);
CPU_KERNEL(gelu);
CPU_KERNEL(gelu_backward);
CPU_KERNEL(gelu_with_slope); /* gelu.c */
CPU_KERNEL(tanh);
CPU_KERNEL(tanh_backward);
CPU_KERNEL(sigmoid);
CPU_KERNEL(sigmoid_backward);
CPU_KERNEL(silu);
CPU_KERNEL(silu_backward);
/* dropout.c */
CPU_KERNEL(dropout);
/* softmax.c */
CPU_KERNEL(softmax);
CPU_KERNEL(softmax_backward);
CPU_KERNEL(log_softmax);
CPU_KERNEL(log_softmax_backward);
/* copy.c: contiguous and cast alike */
CPU_KERNEL(cast);
/* reduce.c */
CPU_KERNEL(sum);
CPU_KERNEL(mean);

/* norm.c, batch_norm.c */
CPU_KERNEL(layer_norm);
CPU_KERNEL(layer_norm_backward);
CPU_KERNEL(batch_norm);
CPU_KERNEL(batch_norm_backward);

/* pool.c */
CPU_KERNEL(max_pool2d);
CPU_KERNEL(max_pool2d_backward);
CPU_KERNEL(avg_pool2d);
CPU_KERNEL(avg_pool2d_backward);

/* attention.c */
CPU_KERNEL(attention);
CPU_KERNEL(attention_backward);

/* sdpa.c, rope.c, gated.c */
CPU_KERNEL(sdpa);
CPU_KERNEL(sdpa_backward);
CPU_KERNEL(rope);
CPU_KERNEL(gated);
CPU_KERNEL(gated_backward);

/* embedding.c */
CPU_KERNEL(embedding);
CPU_KERNEL(embedding_backward);

/* loss.c */
CPU_KERNEL(cross_entropy);
CPU_KERNEL(cross_entropy_backward);
CPU_KERNEL(cross_entropy_slope);
CPU_KERNEL(mse);
CPU_KERNEL(mse_backward);

/* pointwise_loss.c, class_loss.c, ctc.c */
CPU_KERNEL(pointwise_loss);
CPU_KERNEL(pointwise_loss_backward);
CPU_KERNEL(class_loss);
CPU_KERNEL(class_loss_backward);
CPU_KERNEL(ctc);
CPU_KERNEL(ctc_backward);

/* pool_nd.c */
CPU_KERNEL(max_pool);
CPU_KERNEL(max_pool_backward);
CPU_KERNEL(avg_pool);
CPU_KERNEL(avg_pool_backward);
/* resize.c */
CPU_KERNEL(pad_with);
CPU_KERNEL(pad_with_backward);
CPU_KERNEL(upsample);
CPU_KERNEL(upsample_backward);
/* unfold.c, embedding_bag.c */
CPU_KERNEL(unfold);
CPU_KERNEL(fold);
CPU_KERNEL(embedding_bag);
CPU_KERNEL(embedding_bag_backward);
/* rms_norm.c, group_norm.c */
CPU_KERNEL(rms_norm);
CPU_KERNEL(rms_norm_backward);
CPU_KERNEL(group_norm);
CPU_KERNEL(group_norm_backward);
/* rnn.c */
CPU_KERNEL(rnn);
CPU_KERNEL(rnn_backward);

/* activation.c, gate.c */
CPU_KERNEL(leaky_relu);
CPU_KERNEL(leaky_relu_backward);
CPU_KERNEL(elu);
CPU_KERNEL(elu_backward);
CPU_KERNEL(selu);
CPU_KERNEL(selu_backward);
CPU_KERNEL(celu);
CPU_KERNEL(celu_backward);
CPU_KERNEL(hardtanh);
CPU_KERNEL(hardtanh_backward);
CPU_KERNEL(hardsigmoid);
CPU_KERNEL(hardsigmoid_backward);
CPU_KERNEL(hardswish);
CPU_KERNEL(hardswish_backward);
CPU_KERNEL(softplus);
CPU_KERNEL(softplus_backward);
CPU_KERNEL(softsign);
CPU_KERNEL(softsign_backward);
CPU_KERNEL(softshrink);
CPU_KERNEL(softshrink_backward);
CPU_KERNEL(hardshrink);
CPU_KERNEL(hardshrink_backward);
CPU_KERNEL(tanhshrink);
CPU_KERNEL(tanhshrink_backward);
CPU_KERNEL(log_sigmoid);
CPU_KERNEL(log_sigmoid_backward);
CPU_KERNEL(mish);
CPU_KERNEL(mish_backward);
CPU_KERNEL(threshold);
CPU_KERNEL(threshold_backward);
CPU_KERNEL(glu);
CPU_KERNEL(glu_backward);
CPU_KERNEL(prelu);
CPU_KERNEL(prelu_backward);
/* rrelu.c */
CPU_KERNEL(rrelu);
CPU_KERNEL(rrelu_backward);

#endif
