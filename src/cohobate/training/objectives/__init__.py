"""Training objectives, one file each: declaration, settings, loss. `base` has the class of a declaration.

off policy, in [sft]
    cross_entropy  cross-entropy on given text
    logit_kd       forward KL to the teacher on given text, mixed with cross-entropy
    dpo            right responses over wrong ones, relative to the start
    simpo          the same by mean log-probabilities, without a reference
    kto            right and wrong responses, each by itself
on policy, in [opd]
    exact          reverse KL to the teacher on the student's own rollouts, over the whole vocabulary
    topk           reverse or forward KL of the teacher's top-k and a tail
    sampled        reverse KL as policy gradient on the sampled tokens; discounted, or by spans of text
    gkd            forward KL, reverse KL and the Jensen-Shannon divergences between them
    grpo           group-relative advantages of a reward, clipped ratio; mixed with the teacher's log-ratio
    ghost          raise the token of a better response over the student's own
    judge          REINFORCE with +1 or -1, and cross-entropy on rewarded rollouts
    dpo, simpo, kto    in rounds: the teacher's text over the student's rollouts, or right rollouts over wrong ones

`length` adds a price on tokens to any of [opd] that learns the rollouts themselves. `distributions` compares student
and teacher, `policy_gradient` has importance weights and advantages, `preference` turns a loss of whole responses into
one per token. The registry is `cohobate.OBJECTIVES`.
"""
