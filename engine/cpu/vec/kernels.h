/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kernels: declarations of the CPU kernels, by file. Included by engine/cpu/vec/ only: CPU_KERNEL(name) declares the
 * one of this build's instruction set, gd_cpu_<name> without CPU_FN is common to all.
 */
#ifndef GRADD_CPU_VEC_KERNELS_H
#define GRADD_CPU_VEC_KERNELS_H

#include "cpu/kernels.h"

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
/* activation.c */
CPU_KERNEL(relu);
CPU_KERNEL(relu_backward);
CPU_KERNEL(gelu);
CPU_KERNEL(gelu_backward);
CPU_KERNEL(tanh);
CPU_KERNEL(tanh_backward);
CPU_KERNEL(sigmoid);
CPU_KERNEL(sigmoid_backward);
CPU_KERNEL(silu);
CPU_KERNEL(silu_backward);
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

/* embedding.c */
CPU_KERNEL(embedding);
CPU_KERNEL(embedding_backward);

/* loss.c */
CPU_KERNEL(cross_entropy);
CPU_KERNEL(cross_entropy_backward);
CPU_KERNEL(mse);
CPU_KERNEL(mse_backward);

/* pointwise_loss.c, class_loss.c, ctc.c */
CPU_KERNEL(pointwise_loss);
CPU_KERNEL(pointwise_loss_backward);
CPU_KERNEL(class_loss);
CPU_KERNEL(class_loss_backward);
CPU_KERNEL(ctc);
CPU_KERNEL(ctc_backward);

/* rms_norm.c, group_norm.c */
CPU_KERNEL(rms_norm);
CPU_KERNEL(rms_norm_backward);
CPU_KERNEL(group_norm);
CPU_KERNEL(group_norm_backward);
/* rnn.c */
CPU_KERNEL(rnn);
CPU_KERNEL(rnn_backward);

#endif
